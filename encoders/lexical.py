"""The lexical encoder: text to term counts through a real analyser.

Unicode words (NFKC, case-folded), stop words out, Snowball stems; runs of Chinese, Japanese, Korean and Thai
characters, which know no spaces, become overlapping bigrams. Terms are hashed into one fixed space, so there is no
dictionary to load, merge or keep in step. The index turns counts into BM25 impacts: it knows the average length.
"""

from __future__ import annotations

import hashlib
import re
import threading
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from .contract import EncoderError, Identity
from .stopwords import STOP_WORDS

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

# The index keeps learned terms below 2**20 and lexical terms above, in 32 bits.
LEXICAL_SPACE = 2**32 - 2**20

# Scripts written without spaces: kana, CJK ideographs with their extensions, Hangul, Thai, Lao, Khmer, Myanmar.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3105-\u312f\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
# Vowel signs and accents are no \w in Python, yet belong to words; an underscore joins words and belongs to none.
_MARK = "\u0300-\u036f\u0900-\u0903\u093a-\u094f\u0951-\u0957\u0962\u0963\u0981-\u0983\u09bc-\u09cd\u200c\u200d"
_LETTER = rf"[^\W_{_UNSPACED}]"
_RUN = rf"{_LETTER}(?:{_LETTER}|[{_MARK}])*"
_WORD = re.compile(rf"(?P<unspaced>[{_UNSPACED}]+)|{_RUN}(?:['’]{_RUN})*")
_APOSTROPHES = re.compile("['’]s?$|['’]")
_ELISION = re.compile("^(?:[cdjlmnst]|qu|jusqu|lorsqu|puisqu|un|all|dell|nell|sull|dall)['’](?=.)")
_ELIDING = {"french", "italian", "catalan"}

# Languages by name and by ISO 639-1 code; the stemmers are Snowball's.
_CODES = {
    "ar": "arabic", "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "el": "greek", "en": "english",
    "eo": "esperanto", "es": "spanish", "et": "estonian", "eu": "basque", "fa": "persian", "fi": "finnish",
    "fr": "french", "ga": "irish", "hi": "hindi", "hu": "hungarian", "hy": "armenian", "id": "indonesian",
    "it": "italian", "lt": "lithuanian", "ne": "nepali", "nl": "dutch", "no": "norwegian", "pl": "polish",
    "pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian", "sv": "swedish", "ta": "tamil",
    "tr": "turkish", "yi": "yiddish",
}  # fmt: skip
PLAIN = "none"
# Languages whose words are not stemmed: bigrams (see `words`) need no analyser.
_CODES |= dict.fromkeys(
    ("zh", "chinese", "ja", "japanese", "ko", "korean", "th", "thai", "lo", "lao", "km", "khmer", "my", "burmese"),
    PLAIN,
)


def _normalised_language(language: str) -> str:
    """Returns the stemmer's name for a language, or "none"; an unknown one is an error that lists what is known."""
    name = _CODES.get(language.lower(), language.lower())
    if name == PLAIN:
        return name
    import Stemmer

    if name not in Stemmer.algorithms():
        known = ", ".join(sorted({*_CODES.values()} & {*Stemmer.algorithms()}))
        message = f"no analyser for language {language!r}; choose one of: {known}; or 'none' for words without stemming"
        raise EncoderError(message)
    return name


def words(text: str) -> Iterator[str]:
    """Yields a text's tokens: case-folded words, and overlapping bigrams where a script writes no spaces."""
    for match in _WORD.finditer(unicodedata.normalize("NFKC", text).casefold()):
        if run := match["unspaced"]:
            yield from (run[i : i + 2] for i in range(max(1, len(run) - 1)))
        else:
            yield match.group()


def term_id(term: str) -> int:
    """Returns a term's column: the same on every machine and in every process."""
    digest = hashlib.blake2b(term.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % LEXICAL_SPACE


class Analyser:
    """Text to index terms, for one language.

    Args:
        language: a Snowball language by name or ISO code; "none" keeps whole words and every stop word.
        stop_words: words that are no terms; None takes the language's own list where plait has one.
    """

    def __init__(self, language: str = "english", *, stop_words: Sequence[str] | None = None) -> None:
        self.language = _normalised_language(language)
        self.stop_words = frozenset(STOP_WORDS.get(self.language, ()) if stop_words is None else stop_words)
        self._terms: dict[str, tuple[int, str] | None] = {}
        self._lock = threading.Lock()

    @cached_property
    def _stem(self):  # noqa: ANN202
        if self.language == PLAIN:
            return lambda word: word
        import Stemmer

        return Stemmer.Stemmer(self.language).stemWord

    def __call__(self, text: str) -> list[str]:
        """Returns the terms of a text in their order."""
        return [term for _, term in self.terms(text)]

    def terms(self, text: str) -> list[tuple[int, str]]:
        """Returns (column, term) for each term of a text in their order."""
        known = self._terms
        found = []
        for word in words(text):
            entry = known[word] if word in known else self._learn(word)
            if entry is not None:
                found.append(entry)
        return found

    def _learn(self, word: str) -> tuple[int, str] | None:
        base = _APOSTROPHES.sub("", _ELISION.sub("", word) if self.language in _ELIDING else word)
        entry = None
        if base and base not in self.stop_words and word not in self.stop_words:
            with self._lock:  # Snowball stemmers keep state
                stem = self._stem(base)
            entry = (term_id(stem), stem)
        if len(self._terms) >= 2**20:  # a memo, not a dictionary: it may be dropped at any time
            self._terms.clear()
        self._terms[word] = entry
        return entry


class LexicalEncoder:
    """Term counts of documents, and term counts of queries that the index weights by its own IDF.

    Args:
        language: see `Analyser`.
        stop_words: see `Analyser`.
    """

    def __init__(self, language: str = "english", *, stop_words: Sequence[str] | None = None) -> None:
        self.analyser = Analyser(language, stop_words=stop_words)
        stops = hashlib.sha256("\n".join(sorted(self.analyser.stop_words)).encode()).hexdigest()[:16]
        self._identity = Identity(
            name=f"snowball-{self.analyser.language}",
            revision=stops,
            tokenizer=f"unicode-words-1/{self.analyser.language}",
            activation="tf",
            max_length=0,
            dim=LEXICAL_SPACE,
            query_weights="idf",
        )

    @property
    def identity(self) -> Identity:
        """What moves a count: the language and the stop words."""
        return self._identity

    def encode_documents(self, texts: Sequence[str]) -> csr_matrix:
        """Returns float32 term counts (len(texts), LEXICAL_SPACE)."""
        return _counts([Counter(column for column, _ in self.analyser.terms(text)) for text in texts])

    def encode_queries(self, texts: Sequence[str]) -> csr_matrix:
        """Returns float32 term counts of queries: a term named twice counts twice, as in BM25."""
        return self.encode_documents(texts)

    def term_names(self, text: str) -> dict[int, str]:
        """Returns the stems of a query's terms, by column."""
        return dict(self.analyser.terms(text))


def _counts(rows: list[Counter[int]]) -> csr_matrix:
    from scipy.sparse import csr_matrix

    indptr = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=indptr[1:])
    columns = np.fromiter((c for row in rows for c in sorted(row)), np.int64, indptr[-1])
    values = np.fromiter((row[c] for row in rows for c in sorted(row)), np.float32, indptr[-1])
    return csr_matrix((values, columns, indptr), shape=(len(rows), LEXICAL_SPACE))
