"""Texts cut by what their authors marked: titles, headings, sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from ..encoders.lexical import words


def at_least(text: str, count: int) -> bool:
    """Returns whether a text has so many words; a long one is not read to its end."""
    return next(islice(_few_words(text), count - 1, None), None) is not None


def _few_words(text: str) -> Iterator[str]:
    step = 1000  # far more than the words that anybody asks for; a word cut in two there does no harm
    return (word for start in range(0, len(text), step) for word in words(text[start : start + step]))


def without_title(text: str, title: str) -> str:
    """Returns a text without the line that only repeats its title, be it plain, a Markdown or an underlined heading."""
    found = re.match(_OVERLINE + rf"(?:#{{1,6}}[ \t]+)?{re.escape(title)}[ \t]*#*[ \t]*" + _LINE_END, text.lstrip())
    return text.lstrip()[found.end() :].strip() if found else text.strip()


def without(text: str, part: str) -> str:
    """Returns a text that no longer holds a part, wherever it stood; what was around it is kept apart by a space."""
    part = part.strip()
    while part and part in text:  # what is left may meet to form it anew
        text = " ".join(filter(None, (piece.strip() for piece in text.split(part))))
    return text


def sections(text: str) -> list[tuple[str, str]]:
    """Returns (heading, text up to the next heading) of Markdown and reStructuredText, outside fenced code."""
    masked = _FENCED.sub(lambda match: " " * len(match[0]), text)
    found = [match for match in _HEADING.finditer(masked) if _is_heading(match)]
    ends = [match.start() for match in found[1:]] + [len(text)]
    named = ((match["hashed"] or match["lined"]).strip() for match in found)
    bodies = (text[match.end() : end].strip() for match, end in zip(found, ends, strict=False))
    return [(_bare(heading), body) for heading, body in zip(named, bodies, strict=True)]


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Returns (start, end) of sentences: what ends in a full stop of any script, or with a line's or paragraph's end.

    A line that goes on in the next, as in text of fixed width, is no end: only an empty line is, or one after a stop.
    """
    found, start = [], 0
    for match in _STOP.finditer(text):
        found.append((start, match.start() + len(match[0].rstrip())))
        start = match.end()
    found.append((start, len(text.rstrip())))
    spans = ((a + len(text[a:b]) - len(text[a:b].lstrip()), b) for a, b in found)
    return [(a, b) for a, b in spans if a < b]


_OVERLINE = r"(?:(?P<over>[^\w\s])(?P=over){2,}[ \t]*\n)?[ \t]*"
_LINE_END = r"(?:\n(?P<under>[^\w\s])(?P=under){2,}[ \t]*)?(?:\n|\Z)"
_FENCED = re.compile(r"^(?P<fence>```|~~~).*?(?:^(?P=fence)|\Z)", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(
    r"^#{1,6}[ \t]+(?P<hashed>\S.*)$"
    r"|^(?:(?P<over>[=\-`:.'\"~^_*+#])(?P=over){2,}[ \t]*\n)?[ \t]?(?P<lined>[^\s#].*)\n"
    r"(?P<line>([=\-`:.'\"~^_*+#])\5{2,})[ \t]*$",
    re.MULTILINE,
)
_STOP = re.compile(r"[.!?…।॥؟۔][\"'’”»)\]]*(?:\s+|\Z)|[。！？][\"'’”»)\]」』）】]*\s*|(?<![^\S\n])[^\S\n]*\n\s*\n\s*")


def _is_heading(match: re.Match[str]) -> bool:
    """Returns whether it is one: an underline at least as long as the line, which is no ruler itself."""
    if match["hashed"]:
        return True
    return len(match["line"]) >= len(match["lined"].rstrip()) and any(c.isalnum() for c in match["lined"])


def _bare(heading: str) -> str:
    """Returns a heading without the # signs that close it: 'On C#' keeps its own."""
    bare = heading.rstrip("#")
    return bare.rstrip() if bare != heading and bare[-1:].isspace() else heading
