"""What an index of a corpus will cost, before it is made: hours, memory, disk, milliseconds; and which setting fits.

Time, memory and size are extrapolated from what `probing` measures of a sample with this machine as it is. Latency adds
to the small index's own what the documents beyond it cost: a constant for each posting that a query meets and for each
dimension of a vector, as the benchmarks measured them.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from ..index import ann
from .contract import EvalError
from .probing import Clock, Corpus, Probe, probe

COMMIT = 16_384  # documents that `plait index` commits at a time
WINDOW = 8192  # documents of a segment in which a term has one cell
FANOUT = 8  # segments that are merged at a time
VOCABULARY = {"learned": 30_522}  # terms that there can be at most, of most models; lexical ones have no bound
BYTES_A_TERM, BYTES_A_CELL = 16, 7
# Of one core, as benchmarks/sparse.py and benchmarks/dense.py measured them.
SECONDS_A_POSTING = 0.5e-9
SECONDS_A_DIMENSION = 0.165e-9
OF_CODES = 1 / 7  # of the time that full vectors take, where codes propose them
CODES_SECONDS = 12e-6 / 384  # a document and dimension, to learn and write codes


@dataclass(frozen=True)
class Setting:
    """What an index would be made with.

    Attributes:
        strands: which.
        models: by strand, where they are not plait's own, options included.
        dense_index: how dense vectors would be searched.
        cut: options of `plait index` by which texts are cut, as ("--passages", "always"); empty: as it does by itself.
    """

    strands: tuple[str, ...]
    models: Mapping[str, str] = field(default_factory=dict)
    dense_index: str = "auto"
    cut: tuple[str, ...] = ()

    @property
    def flags(self) -> list[str]:
        """The options of `plait index` that make it."""
        models = [word for name, model in self.models.items() for word in (_FLAGS[name], model)]
        dense = ["--dense-index", self.dense_index] if self.dense_index != "auto" else []
        return ["--strands", ",".join(self.strands), *models, *dense, *self.cut]

    @property
    def name(self) -> str:
        """The setting as a table shows it."""
        models = [f"{name} {model}" for name, model in self.models.items()]
        dense = [f"dense index {self.dense_index}"] if self.dense_index != "auto" else []
        cut = [" ".join(self.cut)] if self.cut else []
        return "; ".join([", ".join(self.strands), *models, *dense, *cut])


_FLAGS = {"lexical": "--language", "learned": "--learned", "dense": "--dense"}


@dataclass(frozen=True)
class Prediction:
    """What an index of the whole corpus will take.

    Attributes:
        setting: what it would be made with.
        time: seconds to make it.
        memory: peak bytes meanwhile.
        size: bytes on disk.
        latency: milliseconds of a search, the median, one at a time.
        parts: where time (seconds) and size (bytes) come from, by name.
        over: the budgets that it exceeds, in words.
        documents: how many it will hold; passages, where texts are cut.
    """

    setting: Setting
    time: float
    memory: float
    size: float
    latency: float
    parts: Mapping[str, float]
    over: tuple[str, ...] = ()
    documents: int = 0

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {**asdict(self), "flags": self.setting.flags}


@dataclass(frozen=True)
class Plan:
    """Settings with predictions, in the order in which they are preferred, and the first that fits every budget."""

    predictions: tuple[Prediction, ...]
    chosen: Prediction | None

    @classmethod
    def of(cls, predictions: Iterable[Prediction]) -> Plan:
        """Returns the plan of judged predictions, the preferred first."""
        every = tuple(predictions)
        return cls(every, next((each for each in every if not each.over), None))

    @property
    def reasons(self) -> list[str]:
        """Why the choice is what it is, a line for each setting before it, or for all."""
        ahead = self.predictions[: self.predictions.index(self.chosen)] if self.chosen else self.predictions
        return [f"{each.setting.name}: {', '.join(each.over)}" for each in ahead]


class Budget(NamedTuple):
    """A name of a budget, the units it is given in, and how a number is told."""

    units: Mapping[str, float]
    tell: Callable[[float], str]


def told_seconds(value: float) -> str:
    """Returns "2.5 h", "3.1 min" or "12 s"."""
    unit, name = next(((u, n) for u, n in ((3600, "h"), (60, "min")) if value >= u), (1, "s"))
    return f"{value / unit:.3g} {name}"


def told_bytes(value: float) -> str:
    """Returns "1.2 GB" or "35 MB"."""
    return f"{value / 1e9:.3g} GB" if value >= 1e9 else f"{value / 1e6:.3g} MB"


_BYTES = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
BUDGETS: dict[str, Budget] = {
    "time": Budget({"s": 1, "min": 60, "h": 3600, "d": 86400}, told_seconds),
    "memory": Budget(_BYTES, told_bytes),
    "size": Budget(_BYTES, told_bytes),
    "latency": Budget({"ms": 1, "s": 1000}, lambda value: f"{value:.3g} ms"),
}


def parsed_budgets(given: str | None) -> dict[str, float]:
    """Returns {"time": 7200.0, "size": 1e10} from "time=2h,size=10GB".

    Raises:
        EvalError: a name or a unit that there is not, or no number.
    """
    found: dict[str, float] = {}
    for part in (given or "").split(",") if given is not None else ():
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name not in BUDGETS or name in found:
            raise EvalError(f"--budget takes each of {', '.join(BUDGETS)} once, as time=2h,size=10GB; not {part!r}")
        number = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*([A-Za-z]+)", value)
        units = BUDGETS[name].units
        if not number or number[2] not in units or not float(number[1]):
            raise EvalError(f"the budget for {name} is a number with one of {', '.join(units)}; not {value!r}")
        found[name] = float(number[1]) * units[number[2]]
    return found


def plan(
    corpus: Corpus,
    settings: Iterable[Setting],
    *,
    budgets: Mapping[str, float] | None = None,
    on_progress: Callable[[Setting], None] = lambda _setting: None,
    clock: Clock = time.perf_counter,
) -> Plan:
    """Returns what each setting will take, and the first that fits.

    Args:
        corpus: what `survey` said of it.
        settings: in the order in which they are preferred.
        budgets: the most seconds ("time"), bytes ("memory", "size") and milliseconds ("latency").
        on_progress: told of each setting before it is tried.
        clock: tells seconds, see `probe`.

    Raises:
        EvalError: there is no setting.
        EncoderError: a model cannot be opened.
        StoreError: vectors cannot be searched as a setting says.
    """
    probes: dict[tuple[Any, ...], Probe] = {}
    found: list[Prediction] = []
    wanted = list(settings)
    specs = {setting.dense_index: None for setting in wanted}
    for setting in wanted:
        key = (setting.strands, tuple(setting.models.items()))
        if key not in probes:  # how vectors are searched changes nothing that is measured
            on_progress(setting)
            probes[key] = probe(corpus, setting.strands, setting.models, dense_indexes=specs, clock=clock)
        found.append(judged(predicted(corpus, setting, probes[key]), budgets or {}))
    if not found:
        raise EvalError("there is no setting to plan with; give at least one")
    return Plan.of(found)


def judged(prediction: Prediction, budgets: Mapping[str, float]) -> Prediction:
    """Returns a prediction with the budgets that it exceeds."""
    over = []
    for name, most in budgets.items():
        value, tell = getattr(prediction, name), BUDGETS[name].tell
        if value > most:
            over.append(f"{name} {tell(value)} is over {tell(most)}")
    values = {**vars(prediction), "over": tuple(over)}
    return Prediction(**values)


def predicted(corpus: Corpus, setting: Setting, found: Probe) -> Prediction:
    """Returns what an index of the whole corpus will take, from what the sample took."""
    spec = ann.chosen(setting.dense_index, corpus.documents, found.dim) if found.dim else ann.Spec(0, ann.FLAT)
    times, sizes = _times(corpus, found, spec), _sizes(corpus, found, spec)
    parts = {**{f"{name} seconds": value for name, value in times.items()},
             **{f"{name} bytes": value for name, value in sizes.items()}}  # fmt: skip
    # Memory that the process had already shows in no peak: at the least, what is written is held twice.
    held = max(found.buffer_memory, 2 * (found.arrays + found.database))
    waiting = min(corpus.documents, COMMIT) * held
    return Prediction(
        setting, sum(times.values()), found.encoding_memory + waiting, sum(sizes.values()),
        _latency(corpus.documents, found, spec), parts, documents=corpus.documents,
    )  # fmt: skip


def _times(corpus: Corpus, found: Probe, spec: ann.Spec) -> dict[str, float]:
    """Returns seconds by what takes them."""
    count = corpus.documents
    return {
        "start": found.load + found.start,
        "encode": count * found.encode,
        "store": count * found.store,
        "merge": count * found.merge * _rewritten(count),
        "dense index": count * found.dim * CODES_SECONDS if spec.factory != ann.FLAT else 0.0,
    }


def _rewritten(documents: int) -> float:
    """Returns how often a document is written again: once a tier of segments, and once at the end."""
    commits = math.ceil(documents / COMMIT)
    return 0.0 if commits == 1 else math.floor(math.log(commits, FANOUT)) + 1.0


def _sizes(corpus: Corpus, found: Probe, spec: ann.Spec) -> dict[str, float]:
    """Returns bytes by what takes them."""
    count = corpus.documents
    return {
        "documents": found.empty + count * found.database,
        "vectors and postings": count * found.arrays,
        "terms": sum(_term_bytes(name, count, terms) for name, terms in found.terms.items()),
        "dense index": count * _codes(spec, found.dim) if spec.factory != ann.FLAT else 0.0,
    }


def _term_bytes(strand: str, documents: int, seen: tuple[int, int, int]) -> float:
    """Returns the bytes of a strand's terms, and of their cells, one for each window of documents they occur in."""
    windows = documents / WINDOW
    cells = max(windows, 1) * vocabulary(min(documents, WINDOW), seen, VOCABULARY.get(strand))
    return BYTES_A_TERM * vocabulary(documents, seen, VOCABULARY.get(strand)) + BYTES_A_CELL * cells


def vocabulary(documents: int, seen: tuple[int, int, int], most: int | None = None) -> float:
    """Returns how many different terms so many documents hold, by Heaps' law: a power of their number.

    Args:
        documents: how many.
        seen: documents that were looked at, terms in half of them, terms in all.
        most: terms that there can be.
    """
    held, half, every = seen
    exponent = min(1.0, math.log2(every / half)) if half and every else 0.0
    found = every * (documents / held) ** exponent if held else 0.0
    return min(found, most) if most else found


def _codes(spec: ann.Spec, dim: int) -> float:
    """Returns the bytes a document of what proposes vectors."""
    import faiss

    index = faiss.index_factory(spec.reduced or dim, spec.factory, faiss.METRIC_INNER_PRODUCT)
    code = float(getattr(index, "code_size", 0))
    if spec.factory.startswith("IVF"):
        return code + 8
    links = re.match(r"HNSW(\d+)", spec.factory)
    return code + (8 * int(links[1]) + 8 if links else 0)


def _latency(documents: int, found: Probe, spec: ann.Spec) -> float:
    """Returns the median milliseconds of a search."""
    beyond = max(0, documents - found.held)
    share = OF_CODES if spec.factory != ann.FLAT else 1.0
    dense = found.dim * SECONDS_A_DIMENSION * share
    return found.latency + 1000 * beyond * (found.touched * SECONDS_A_POSTING + dense)


def combinations(
    strands: Sequence[str], models: Mapping[str, Sequence[str]], lengths: Sequence[int], dense_indexes: Sequence[str]
) -> list[Setting]:
    """Returns all settings to try, the preferred first: earlier strands, models, lengths and indexes before later.

    Args:
        strands: as "lexical,dense", each a choice.
        models: names by strand; one is chosen for each strand that a setting has.
        lengths: tokens to read of a text, for the models; empty: what they read by themselves.
        dense_indexes: specifications, for settings with a dense strand.
    """
    found: dict[str, Setting] = {}
    for text in strands:
        names = tuple(text.split(","))
        for chosen in _chosen([(name, models.get(name) or [""]) for name in names]):
            for length in lengths or [0]:
                given = {name: _with_length(name, model, length) for name, model in chosen.items()}
                for index in dense_indexes if "dense" in names else ["auto"]:
                    setting = Setting(names, {name: model for name, model in given.items() if model}, index)
                    found.setdefault(setting.name, setting)
    return list(found.values())


def _chosen(choices: Sequence[tuple[str, Sequence[str]]]) -> list[dict[str, str]]:
    """Returns every choice of a model for each strand; where two have equally many, those of one place go together."""
    joint = {name: models for name, models in choices if len(models) > 1}
    if len(joint) == 2 and len({len(models) for models in joint.values()}) == 1:
        count = len(next(iter(joint.values())))
        return [{name: models[min(i, len(models) - 1)] for name, models in choices} for i in range(count)]
    found: list[dict[str, str]] = [{}]
    for name, models in choices:
        found = [{**one, name: model} for one in found for model in models]
    return found


def _with_length(strand: str, model: str, length: int) -> str:
    if strand == "lexical" or not length:
        return model
    return f"{model or 'embedded'}:max_length={length}"
