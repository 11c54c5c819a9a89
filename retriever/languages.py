"""Which analysis of queries finds the terms of somebody else's index: told by terms that it leaves as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..encoders.lexical import PLAIN, Analyser

SAMPLE = 2000
# Tried where none is asked for: Lucene's own stemmer, Snowball's for English.
STEMMERS = ("porter", "english")
ENOUGH = 0.8  # stemming leaves .93 of the terms that it made itself as they are, and .25 to .30 of whole words


def overlaps(terms: Sequence[str], languages: Sequence[str]) -> dict[str, float]:
    """Returns, by language, the share of a sample of terms that its analyser leaves as they are.

    Words of letters alone are looked at, from five on: numbers and short words look alike whatever stemmed them.
    """
    words = [term for term in terms if term.isalpha() and len(term) >= 5]
    sample = words[:: max(1, len(words) // SAMPLE)][:SAMPLE]
    analysers = {language: Analyser(language, stop_words=()) for language in languages}
    return {
        language: sum(analyse(term) == [term] for term in sample) / max(1, len(sample))
        for language, analyse in analysers.items()
    }


def chosen_language(terms: Sequence[str], asked: str | None) -> tuple[str, Mapping[str, float]]:
    """Returns the language asked for, or else the stemmer that fits the terms, or "none"; and what each would fit."""
    others = [name for name in (*STEMMERS, PLAIN) if name != asked]
    found = overlaps(terms, others if asked is None else [asked, *others])
    best = max(STEMMERS, key=lambda name: found[name])
    return asked or (best if found[best] >= ENOUGH else PLAIN), found
