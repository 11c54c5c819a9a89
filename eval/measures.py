"""Measures by name, computed by ir_measures, whose definitions are trec_eval's."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from ..index.ranking import ranked
from ..retriever.log import MOST
from .contract import EvalError, Qrels, Run

if TYPE_CHECKING:
    from ir_measures.measures import Measure

# What `plait eval` shows unless asked otherwise, and why each.
MEASURES: dict[str, str] = {
    "nDCG@10": "graded relevance near the top: BEIR's main measure",
    "RR@10": "how far down the first relevant document is: MS MARCO's measure",
    "AP@100": "precision over the whole ranking",
    "R@100": "how much a reranker could still find",
}
#: What is measured unless said otherwise.
DEFAULT_MEASURES = tuple(MEASURES)
EXAMPLES = "nDCG@10, R@100, RR@10, AP@100, P@5, Success@1, AP(rel=2), Judged@10"

_FORM = re.compile(r"\s*(?P<name>\w+)\s*(?:\((?P<params>.*)\))?\s*(?:@\s*(?P<at>-?[\d.]+))?\s*")
_DEEPEST = 10**9  # trec_eval's numbers are C's


@dataclass(frozen=True)
class Scores:
    """What one run scores.

    Attributes:
        means: measure -> mean over all judged queries.
        per_query: measure -> query id -> value, in the order of the qrels.
    """

    means: dict[str, float]
    per_query: dict[str, dict[str, float]]


def parse_measures(names: Iterable[str] | str = DEFAULT_MEASURES) -> tuple[str, ...]:
    """Returns measures in ir_measures' own spelling, each once; a string may list several, separated by blanks.

    Raises:
        EvalError: a name that is unknown, a parameter that is wrong, or a measure that needs another package.
    """
    names = names.split() if isinstance(names, str) else list(names)
    if not names:
        raise EvalError(f"no measure given; expected one or more such as {EXAMPLES}")
    return tuple(dict.fromkeys(str(_parse(name)) for name in names))


def cutoff_of(name: str) -> int | None:
    """Returns how many hits a measure looks at; None where it looks at the whole ranking, as `IPrec@0.5` does.

    Raises:
        EvalError: a measure that is not known.
    """
    return _parse(name).params.get("cutoff")


def score_run(run: Run, qrels: Qrels, measures: Iterable[str] | str = DEFAULT_MEASURES) -> Scores:
    """Returns the measures of a run, over every query that has judgements and no other.

    A query without hits counts as 0; a document without a judgement, or with one of 0 or less, is not relevant. The
    run is scored as it is: see `without_own` for queries that are documents themselves.

    Raises:
        EvalError: no judged query, a measure that is not known, a score that is no number, or a relevance that is
            no whole number or beyond a million.
    """
    wanted = {name: _parse(name) for name in parse_measures(measures)}
    if not qrels:
        raise EvalError("there are no judged queries; expected qrels with one or more")
    per_query = {name: dict.fromkeys(qrels, 0.0) for name in wanted}
    for query, metric in _calculate(wanted, qrels, _ranks(run, qrels)):
        per_query[str(metric.measure)][query] = float(metric.value)
    return Scores({name: _mean(wanted[name], values.values()) for name, values in per_query.items()}, per_query)


def mean_of(measure: str, values: Iterable[float]) -> float:
    """Returns what a measure of many queries is: the mean of their values, or the sum of a measure that counts.

    Raises:
        EvalError: a measure that is not known.
    """
    return _mean(_parse(measure), values)


def _ranks(run: Run, qrels: Qrels) -> dict[str, dict[str, float]]:
    """Returns the judged queries' hits, scored n, n - 1, ..., 1 in our order.

    trec_eval keeps scores as 32-bit floats: two that differ only in 64 bits would tie there, and change places.
    """
    ranks: dict[str, dict[str, float]] = {}
    for query in qrels:
        found = run.get(query, {})
        if bad := [document for document, score in found.items() if not _is_number(score)]:
            raise EvalError(f"document {bad[0]!r} has no number for a score in query {query!r}; expected one")
        hits = ranked(found)
        if hits:
            ranks[query] = {document: float(len(hits) - place) for place, (document, _score) in enumerate(hits)}
    return ranks


def _calculate(wanted: dict[str, Measure], qrels: Qrels, ranks: dict[str, dict[str, float]]) -> list[tuple[str, Any]]:
    """Returns (query id, metric) pairs; the programs themselves see numbers for ids, as gdeval takes no others."""
    import ir_measures

    names = {str(number): query for number, query in enumerate(qrels, start=1)}
    judged = {number: _safe(query, qrels[query]) for number, query in names.items()}
    found = {number: ranks[query] for number, query in names.items() if query in ranks}
    try:
        metrics = list(ir_measures.iter_calc(list(wanted.values()), judged, found)) if found else []
    except subprocess.CalledProcessError as error:  # says on stderr why
        why = "gdeval, which ir_measures runs for ERR and exp-log2, takes relevance up to 4 and ids without blanks"
        raise EvalError(f"cannot compute {', '.join(wanted)}: {why}") from error
    except (ValueError, RuntimeError, OSError, ZeroDivisionError) as error:
        raise EvalError(f"cannot compute {', '.join(wanted)}: {error}") from error
    return [(names[metric.query_id], metric) for metric in metrics]


def _safe(query: str, judgements: Mapping[str, int]) -> dict[str, int]:
    """Returns judgements that trec_eval can count: of a query with negative ones alone it writes past an array's end.

    Nothing is relevant there either way, so zeros in their place give the same values.
    """
    for document, relevance in judgements.items():
        if not isinstance(relevance, Integral):
            raise EvalError(
                f"document {document!r} has the relevance {relevance!r} in query {query!r}; expected a whole number"
            )
        if abs(relevance) > MOST:
            raise EvalError(
                f"document {document!r} has the relevance {relevance} in query {query!r}; expected {MOST:,} at most"
            )
    crashes = bool(judgements) and max(judgements.values()) < 0
    return {document: 0 if crashes else int(relevance) for document, relevance in judgements.items()}


def _is_number(score: object) -> bool:
    return isinstance(score, (float, Real)) and score == score  # NaN alone is not itself


def _mean(measure: Measure, values: Iterable[float]) -> float:
    total = measure.aggregator()  # a sum for measures that count
    for value in values:
        total.add(value)
    return float(total.result())


def _parse(name: str) -> Measure:
    """Returns ir_measures' object for a name.

    Its own `parse_measure` uses syntax nodes that Python 3.12 deprecates and 3.14 no longer has.
    """
    from ir_measures import DefaultPipeline
    from ir_measures.measures import registry

    form = _FORM.fullmatch(name)
    kinds = {known.lower(): kind for known, kind in registry.items()}
    if form is None or form["name"].lower() not in kinds:
        raise EvalError(f"there is no measure {name!r}; expected such as {EXAMPLES}")
    kind = kinds[form["name"].lower()]
    try:
        params = _params(form["params"] or "")
        if form["at"]:
            params[kind.AT_PARAM] = ast.literal_eval(form["at"])
        measure = kind(**params)
        supported = DefaultPipeline.supports(measure)
        _check_params(params)
    except (AssertionError, SyntaxError, ValueError, TypeError) as error:
        raise EvalError(f"the measure {name!r} cannot be read: {error}; expected such as {EXAMPLES}") from None
    if not supported:
        raise EvalError(f"no installed package computes {name!r}{_providers(measure)}; expected such as {EXAMPLES}")
    return measure


def _params(text: str) -> dict[str, Any]:
    call = ast.parse(f"f({text})", mode="eval").body
    if not isinstance(call, ast.Call) or call.args:
        raise ValueError("parameters are written name=value")
    return {keyword.arg or "": ast.literal_eval(keyword.value) for keyword in call.keywords}


def _check_params(params: Mapping[str, Any]) -> None:
    """Refuses numbers that end the process inside trec_eval, or that it misreads."""
    for name, most in (("cutoff", _DEEPEST), ("rel", MOST)):
        if not 1 <= params.get(name, 1) <= most:
            raise ValueError(f"{name} is {params[name]}; expected 1 to {most:,}")
    if any(abs(gain) > MOST for gain in params.get("gains", {}).values()):
        raise ValueError(f"a gain is beyond {MOST:,}")


def _providers(measure: Measure) -> str:
    from ir_measures import DefaultPipeline

    able = [provider for provider in DefaultPipeline.providers if provider.supports(measure)]
    hints = [hint for provider in able if (hint := provider.install_instructions())]
    return f" ({' or '.join(hints)})" if hints else ""
