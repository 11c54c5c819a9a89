"""Contexts for language models: is the paragraph that answers a question in them, at what cost; what is cited?"""

# pyright: reportMissingImports=false
# (pyright does not see an editable install of plait)

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import common
import numpy as np
from plait.eval import Dataset, EvalError, load_beir
from plait.eval.contexts import ANSWER_MEASURES, MEASURES, ContextScores, Gold, compare_contexts
from plait.retriever import Document, PlaitError, Retriever
from plait.retriever.passages import split_document
from plait.retriever.rag import Rag

BETWEEN = "\n\n"  # paragraphs of an article
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "hits alone": {"neighbours": 0},
    "twice the hits alone": {"neighbours": 0, "times": 2},
    "neighbours 1 (default)": {},
    "neighbours 2": {"neighbours": 2},
    "near copies kept": {"duplicates": None, "neighbours": 0},
    "mmr": {"choose": "mmr", "neighbours": 0},
    "clusters": {"choose": "clusters", "neighbours": 0},
    "questions as all": {"neighbours": 0, "search": {"pipeline": "feedback"}},
    "lexical alone": {"neighbours": 0, "search": {"strands": "lexical"}},
    "dense alone": {"neighbours": 0, "search": {"strands": "dense"}},
}


def main() -> None:
    """Indexes articles as passages, asks, and writes the tables."""
    args = _arguments()
    folder = common.existing(
        args.data / "beir" / args.collection, "a BEIR folder whose documents are paragraphs, ID-NUMBER"
    )
    where = common.machine()
    try:
        dataset = load_beir(folder)
        with closing(_index(dataset, args)) as retriever:
            scores = {budget: _measured(retriever, dataset, budget, args) for budget in args.budgets}
            passages = len(retriever)
    except (EvalError, *PlaitError) as error:
        common.fail(str(error))
    tables = [_table(f"{budget} tokens, {args.k} hits", measured) for budget, measured in scores.items()]
    notes = [
        f"{args.queries} questions drawn from {args.collection}. Its paragraphs were joined to articles and those cut "
        f"into {passages:,} passages of {args.words} words, without regard to paragraphs; what answers a question is "
        "the paragraph it was asked about, by its characters.",
        "recall: share of that paragraph in the context. precision: share of the context that is of it. first: it "
        "is in the first source. correct: quoted sentences of the extractive answer (three) that are of it. supported: "
        "one of them is.",
    ]
    raw = {str(budget): {name: dict(each.means) for name, each in found.items()} for budget, found in scores.items()}
    print(
        common.write(
            "contexts", args.results, where=where, tables=tables, notes=notes, raw={"budgets": raw},
            about="What a language model would be given, by configuration.",
        )
    )  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = common.parser(__doc__ or "")
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with beir/COLLECTION/")
    parser.add_argument("--collection", default="squad-dev", help="its documents are paragraphs named ARTICLE-NUMBER")
    parser.add_argument("--work", type=Path, required=True, help="where the index is made, and kept")
    parser.add_argument("--words", type=int, default=100, help="of a passage")
    parser.add_argument("--k", type=int, default=10, help="hits of a question")
    parser.add_argument("--budgets", type=int, nargs="+", default=[500, 1500], help="tokens of a context")
    parser.add_argument("--queries", type=int, default=300, help="the most questions")
    return parser.parse_args()


def _articles(dataset: Dataset) -> tuple[list[Document], dict[str, Gold]]:
    """Returns whole articles, and where each paragraph stands."""
    texts: dict[str, str] = {}
    titles: dict[str, str] = {}
    places: dict[str, Gold] = {}
    for paragraph in dataset.documents():
        article = paragraph.id.rpartition("-")[0] or paragraph.id
        before = f"{texts[article]}{BETWEEN}" if article in texts else ""
        texts[article] = before + paragraph.text
        titles.setdefault(article, paragraph.title)
        places[paragraph.id] = Gold(article, len(before), len(texts[article]))
    return [Document(id=id, text=text, title=titles[id]) for id, text in texts.items()], places


def _index(dataset: Dataset, args: argparse.Namespace) -> Retriever:
    path = args.work / f"{args.collection}-{args.words}.index"
    retriever = Retriever.open(path) if (path / "plait.db").exists() else Retriever.create(path)
    articles, _ = _articles(dataset)
    overlap = args.words // 5
    retriever.add(one for article in articles for one in split_document(article, words=args.words, overlap=overlap))
    retriever.commit()
    return retriever


def _measured(
    retriever: Retriever, dataset: Dataset, budget: int, args: argparse.Namespace
) -> dict[str, ContextScores]:
    _, places = _articles(dataset)
    chosen = np.random.default_rng(0).permutation(list(dataset.queries))[: args.queries].tolist()
    queries = {query: dataset.queries[query] for query in chosen}
    gold = {q: [places[d] for d, relevance in dataset.qrels[q].items() if relevance > 0] for q in chosen}
    found: dict[str, ContextScores] = {}
    for name, options in CONFIGURATIONS.items():
        print(f"{budget} tokens, {name} ...", file=sys.stderr, flush=True)
        more = {key: value for key, value in options.items() if key != "times"}
        rag = Rag(retriever, k=args.k * options.get("times", 1), budget=budget, **more)
        answers = name == "hits alone"  # encoding sentences takes longer than all else
        found.update(compare_contexts({name: rag}, queries, gold, answers=answers))
    return found


def _table(title: str, found: dict[str, ContextScores]) -> common.Table:
    columns = (*MEASURES, *ANSWER_MEASURES[:2])
    rows = [(name, *(_cell(each, column) for column in columns)) for name, each in found.items()]
    return common.Table(title, ("configuration", *columns), rows)


def _cell(scores: ContextScores, measure: str) -> str:
    if measure not in scores.means:
        return ""
    value = scores.means[measure]
    return f"{value:.0f}" if measure == "tokens" else f"{value:.1f}" if measure == "sources" else f"{value:.3f}"


if __name__ == "__main__":
    main()
