"""The retrieval half of RAG: from a query to a context for a language model, and to an answer with citations.

    from plait.retriever.rag import Rag

    rag = Rag(retriever, budget=1500)
    rag.context("who built the canal?").text

No language model is needed. Where there is one it may ask better questions, filter what was found, and answer.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from . import specs
from .cited import Cited, Sentence, cited
from .context import Context, Count, Dropped, Found, approximate_tokens, build, shortened
from .documents import Document
from .endpoint import Model
from .errors import QueryError
from .extract import Quote, quotes
from .limits import within
from .pipeline import listed
from .questions import QUESTIONS, answered, asked, judged, missing, parse_steps
from .retriever import Retriever

FILTER = "filter"
STEPS = (*QUESTIONS, FILTER)  # that a language model takes
ROUNDS = 3  # of searching and filtering, at most
RRF = 60  # how several questions' rankings become one (Cormack et al., SIGIR 2009)

# What is added to the pipeline so that a context does not say the same thing k times; {k} hits are wanted of {top}.
CHOICES: dict[str, tuple[Mapping[str, Any], ...]] = {
    "best": (),
    "mmr": ({"step": "mmr", "top": "top"},),
    "clusters": ({"step": "clusters", "top": "top", "clusters": "k"},),  # the best of each (TopClustRAG)
}


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer and what it rests on.

    Attributes:
        text: the answer, with citations as "[1]"; empty where nothing was found.
        context: what it was made from.
        cited: which sources it cites, and which sentences cite none.
        quotes: of an extractive answer its sentences, each with its place; empty where a model wrote it.
    """

    text: str
    context: Context
    cited: Cited
    quotes: tuple[Quote, ...] = ()


@dataclass(frozen=True)
class Rag:
    """Makes contexts and answers from an index.

    Attributes:
        retriever: the open index.
        k: hits that each question contributes at most.
        budget: tokens of a context at most.
        count: text -> tokens; `index_tokens(retriever)` counts by the index's own tokenizer.
        neighbours: passages before and behind each hit that are taken along, as far as the budget goes.
        duplicates: a hit is left out when at least this share of its shingles of three words is in one that is there;
            None leaves nothing out.
        choose: "best" takes the best hits, "mmr" such as differ, "clusters" the best of each of k clusters.
        model: a language model: messages -> text (see `plait.retriever.endpoint`).
        steps: what it does: "rewrite", "hyde" and "decompose" make the questions, in the order given; "filter" drops
            hits that do not help, and searches again for what is missing.
        rounds: of searching, with "filter".
        search: more arguments of `Retriever.search`, as {"filter": "year >= 2020", "strands": "lexical,dense"}.
    """

    retriever: Retriever
    k: int = 10
    budget: int = 2000
    count: Count = approximate_tokens
    neighbours: int = 1
    duplicates: float | None = 0.8
    choose: str = "best"
    model: Model | None = None
    steps: str | Sequence[str] = ()
    rounds: int = 2
    search: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        within("a context", 1, k=self.k, budget=self.budget)
        within("a context", 0, neighbours=self.neighbours)
        within("a context", 1, ROUNDS, rounds=self.rounds)
        if self.duplicates is not None and not 0 < self.duplicates <= 1:
            raise QueryError(f"a context takes duplicates above 0, to 1, or None; not {self.duplicates!r}")
        if self.choose not in CHOICES:
            raise QueryError(f"no choice {self.choose!r} of hits; there are: {', '.join(CHOICES)}")
        if taken := {"k", "query", "queries"} & set(self.search):
            raise QueryError(f"search takes arguments of Retriever.search other than {', '.join(sorted(taken))}")
        known = list(inspect.signature(Retriever.search).parameters)[3:]  # behind self, query, k
        if unknown := [name for name in self.search if name not in known]:
            raise QueryError(f"Retriever.search has no argument {unknown[0]!r}; there are: {', '.join(known)}")
        parse_steps(self.steps, STEPS, self.model)

    def context(self, query: str) -> Context:
        """Returns the context for a query; an empty one where nothing is found.

        Raises:
            QueryError: the query is empty, or a search argument is wrong.
            FilterError: as `Retriever.search`.
            ModelError: the language model cannot be asked.
        """
        steps = parse_steps(self.steps, STEPS, self.model)
        questions = [query] if self.model is None else asked(self.model, query, [s for s in steps if s != FILTER])
        found, dropped = self._found(questions), []
        if self.model is not None and FILTER in steps:
            found, dropped = self._filtered(self.model, query, found)
        made = build(
            query, found, budget=self.budget, count=self.count, duplicates=self.duplicates,
            neighbours=self.neighbours, passages=self._passages,
        )  # fmt: skip
        every = tuple(dict.fromkeys([*questions, *made.questions]))
        return replace(made, questions=every, dropped=(*made.dropped, *dropped))

    def answer(self, query: str, *, sentences: int = 3) -> Reply:
        """Returns an answer: the model's, or, where there is none, the best sentences of the context.

        Args:
            query: the question.
            sentences: how many an extractive answer has, at most.

        Raises:
            QueryError: as `context`.
            ModelError: the language model cannot be asked.
        """
        context = self.context(query)
        if not context.citations:
            return Reply("", context, cited("", context))
        if self.model is not None:
            text = answered(self.model, query, context.text)
            return Reply(text, context, cited(text, context))
        within("an answer", 1, sentences=sentences)
        found = sorted(quotes(self.retriever, context, sentences), key=lambda quote: (quote.number, quote.start))
        text = "\n".join(map(_quoted, found))
        return Reply(text, context, _cited(found), tuple(found))

    def _found(self, questions: Sequence[str]) -> list[Found]:
        """Returns the hits of all questions, each once: under the question that ranks it highest."""
        options = {**self.search, "pipeline": self._pipeline()}
        answers = [self.retriever.search(question, self.k, **options) for question in questions]
        worth: dict[str, float] = {}
        best: dict[str, Found] = {}
        for question, answer in zip(questions, answers, strict=True):
            for hit in answer:
                worth[hit.id] = worth.get(hit.id, 0.0) + 1.0 / (RRF + hit.rank)
                if hit.id not in best or hit.rank < best[hit.id].hit.rank:
                    best[hit.id] = Found(hit, question)
        return sorted(best.values(), key=lambda one: -worth[one.hit.id])

    def _passages(self, parent: str) -> list[Document]:
        """Returns the passages of a parent that the search may find: a filter holds for what stands beside hits too."""
        family, condition = self.retriever.passages(parent), self.search.get("filter")
        if condition is None or not family:
            return family
        with self.retriever._reading() as snapshot:
            positions = snapshot.positions([one.id for one in family])
            allowed = set(snapshot.positions_in(snapshot.select(condition)).tolist())
        return [one for one in family if positions.get(one.id) in allowed]

    def _pipeline(self) -> Any:
        """Returns the steps of a search: those given, or else the index's own, and the choice behind them."""
        given = self.search.get("pipeline")
        sizes = {"k": self.k, "top": max(20, 3 * self.k)}
        more = [{name: sizes.get(value, value) for name, value in step.items()} for step in CHOICES[self.choose]]
        if not more:
            return given
        if given is None:
            search = {name: self.search.get(name) for name in ("strands", "fusion", "weights")}
            given = self.retriever.steps(**search)
        return [*(str(step) if isinstance(step, specs.Spec) else step for step in listed(given)), *more]

    def _filtered(self, model: Model, query: str, found: list[Found]) -> tuple[list[Found], list[Dropped]]:
        """Returns the hits that help by a model's word, with those of further searches for what is missing."""
        kept: list[Found] = []
        dropped: list[Dropped] = []
        for left in range(self.rounds - 1, -1, -1):
            helps = judged(model, query, [shortened(_full(one), self.budget, self.count) for one in found])
            kept += [one for one, good in zip(found, helps, strict=True) if good]
            dropped += [Dropped(one.hit.id, "judged") for one, good in zip(found, helps, strict=True) if not good]
            asks = missing(model, query, self._read(kept)) if left else None
            if asks is None:
                break
            known = {one.hit.id for one in kept} | {one.id for one in dropped}
            found = [one for one in self._found([asks]) if one.hit.id not in known]
            if not found:
                break
        return kept, dropped

    def _read(self, kept: Sequence[Found]) -> list[str]:
        """Returns the texts of hits that a model reads together: of each the beginning, as far as the budget goes."""
        texts, left = [], self.budget
        for one in kept:
            text = shortened(_full(one), left, self.count)
            left -= self.count(text)
            texts += [text] if text else []
        return texts


def index_tokens(retriever: Retriever) -> Count:
    """Returns a function that counts tokens as the index's dense or learned encoder does, without special ones.

    Where its tokenizer cannot be found, words are counted, three for four tokens.
    """
    from ..encoders.windows import windows_for

    for name in ("dense", "learned"):
        if name in retriever.strands and (encoder := getattr(retriever.strand(name), "encoder", None)) is not None:
            tokenizer = windows_for(encoder, 256, 0).tokenizer
            if tokenizer is not None:
                return _counter(tokenizer)
    return approximate_tokens


def _counter(tokenizer: Any) -> Count:
    whole = type(tokenizer).from_str(tokenizer.to_str())
    whole.no_truncation()
    whole.no_padding()
    return lambda text: len(whole.encode(text, add_special_tokens=False).ids)


def _cited(found: Sequence[Quote]) -> Cited:
    """Returns what quotes cite: the source of each, and not what looks like a number of one in a quoted text."""
    sentences = tuple(Sentence(_quoted(quote), (quote.number,)) for quote in found)
    return Cited(sentences, tuple(sorted({quote.number for quote in found})), (), ())


def _quoted(quote: Quote) -> str:
    return f"{' '.join(quote.text.split())} [{quote.number}]"


def _full(found: Found) -> str:
    return f"{found.hit.title}\n{found.hit.text}".strip()
