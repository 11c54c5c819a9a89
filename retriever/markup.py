"""Title and text of files that people write: plain text, Markdown, reStructuredText, HTML."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import NamedTuple

from .documents import IngestError


class Page(NamedTuple):
    """What a file says: its title ("" where it names none) and its text."""

    title: str
    text: str


_FENCED = re.compile(r"^(```|~~~).*?(?:^\1|\Z)", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(
    r"^ {0,3}#{1,6}[ \t]+(?P<hashed>\S.*)$|^(?P<underlined>\S.*)\n(?P<line>={3,}|-{3,})[ \t]*$",
    re.MULTILINE,
)
_FRONT_MATTER = re.compile(r"\A---\n.*?^---\s*$", re.MULTILINE | re.DOTALL)
_UNDERLINED = re.compile(r"^(?P<title>\S.*)\n(?P<line>([=\-`:.'\"~^_*+#])\3{2,})[ \t]*$", re.MULTILINE)


def plain(text: str) -> Page:
    """Returns the text as it is; plain text names no title."""
    return Page("", text)


def markdown(text: str) -> Page:
    """Returns the text as it is, titled by its first heading outside code blocks and front matter."""
    prose = _FENCED.sub("", _FRONT_MATTER.sub("", text))
    heading = _HEADING.search(prose)
    return Page(_unclosed((heading["hashed"] or heading["underlined"]).strip()) if heading else "", text)


def _unclosed(heading: str) -> str:
    """Returns a heading without the # signs that close it: `# Title ##` is 'Title', but `# On C#` is 'On C#'."""
    bare = heading.rstrip("#")
    return bare.rstrip() if bare != heading and bare[-1:].isspace() else heading


def restructured(text: str) -> Page:
    """Returns the text as it is, titled by its first line that has an underline at least as long."""
    long_enough = (m for m in _UNDERLINED.finditer(text) if len(m["line"]) >= len(m["title"].rstrip()))
    heading = next(long_enough, None)
    return Page(heading["title"].strip() if heading else "", text)


def html(text: str) -> Page:
    """Returns the readable text, titled by <title> or the first heading; scripts and styles are left out."""
    parser = _Reader()
    try:
        parser.feed(text)
        parser.ending = max(LEAST_UNFINISHED, MOST_SCANNED // max(len(text), 1))
        parser.close()
    except AssertionError as error:  # what html.parser raises on a broken declaration, up to Python 3.12
        raise IngestError(f"this HTML cannot be parsed ({error}); repair it or convert it to text") from None
    return parser.page()


# At the end of a file html.parser (before its mend of 2025) looks from each tag or comment that nothing closes to the
# end of the text once more: in a file of nothing else that takes minutes. It may look at about so many characters, or
# so many times.
MOST_SCANNED, LEAST_UNFINISHED = 2_000_000, 10
_UNFINISHED = re.compile(r"<[A-Za-z/!?]")
_SILENT = frozenset(("script", "style", "template", "noscript", "svg"))
_HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
_PARAGRAPHS = (
    "address article aside blockquote body details dl fieldset figure footer form h1 h2 h3 h4 h5 h6 header hr html "
    "main nav ol p pre section summary table title ul"
)
_LINES = "br caption dd div dt figcaption li option tr"
_GAPS = {**dict.fromkeys(_PARAGRAPHS.split(), "\n\n"), **dict.fromkeys(_LINES.split(), "\n"), "td": " ", "th": " "}
_BLANKS = re.compile(r"\s+")


class _Reader(HTMLParser):
    """Collects the text between tags, the title and the first heading."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._pieces: list[str] = []
        self._silent: list[str] = []
        self._preformatted = 0
        self._names: dict[str, str] = {}  # the <title> and the first heading
        self._open_name = ""
        self.ending: int | None = None  # unfinished tags that may still come; None before the end of the text

    def page(self) -> Page:
        """Returns what has been read."""
        title = next((name for name in map(self._names.get, ("title", "heading")) if name and name.strip()), "")
        text = "\n".join(line.rstrip() for line in "".join(self._pieces).split("\n"))
        return Page(" ".join(title.split()), re.sub(r"\n{3,}", "\n\n", text).strip())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Opens a silent stretch, a preformatted one, a title or a heading."""
        if tag in _SILENT:
            self._silent.append(tag)
        self._preformatted += tag == "pre"
        self._gap(tag)
        name = "heading" if tag in _HEADINGS else tag
        if name in ("title", "heading") and name not in self._names and not self._silent:
            self._names[name], self._open_name = "", name

    def handle_endtag(self, tag: str) -> None:
        """Closes what the start tag opened."""
        if tag in self._silent:
            del self._silent[self._silent.index(tag) :]
        self._preformatted -= tag == "pre" and self._preformatted > 0
        self._gap(tag)
        if self._open_name and self._open_name == ("heading" if tag in _HEADINGS else tag):
            self._open_name = ""

    def handle_data(self, data: str) -> None:
        """Keeps text, with runs of white space outside <pre> as one space.

        Raises:
            IngestError: it is one unfinished tag too many.
        """
        if self.ending is not None and _UNFINISHED.match(data):
            self.ending -= 1
            if self.ending < 0:
                raise IngestError(
                    "this HTML has too many tags or comments that nothing closes; repair it or convert it to text"
                )
        if self._silent:
            return
        if self._open_name:
            self._names[self._open_name] += data
        if self._open_name == "title":
            return
        if not self._preformatted:
            data = _BLANKS.sub(" ", data)
            if not self._pieces or self._pieces[-1].endswith((" ", "\n")):
                data = data.removeprefix(" ")
        if data:
            self._pieces.append(data)

    def _gap(self, tag: str) -> None:
        if (gap := _GAPS.get(tag)) and not self._silent:
            self._pieces.append(gap)
