"""Results as people read them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from ..retriever import Answer, Hit, Match
from .console import counted, visible

if TYPE_CHECKING:
    from ..eval import Moved, Shift

INDENT = 4
SNIPPET = 240
TERMS = 6
_HELD = "\N{NO-BREAK SPACE}"  # inside what a strand says, where a line is not to end


def hit_text(hit: Hit, width: int) -> Text:
    """Returns a hit: title, the strands' scores, matched terms if any, and the part of the text that matched."""
    heading = visible(_heading(hit))
    text = Text.assemble((f"{hit.rank:>2}  ", "dim"), (f"{hit.score:.3f}  ", "bold cyan"), (heading, "bold"))
    if heading != hit.id:
        text.append(f"  {hit.id}", "dim")
    if hit.probability is not None:
        text.append(f"  relevant with probability {hit.probability:.2f}", "dim")
    parts = [(_strands(hit), "green")]
    parts += [(f"{strand}: {terms}", "yellow") for strand, terms in _terms(hit.matches).items()]
    parts.append((snippet(hit.text, [m.term for m in hit.matches]), ""))
    wrap = textwrap.TextWrapper(max(20, width - INDENT), break_long_words=False, break_on_hyphens=False).wrap
    for part, style in parts:
        for line in wrap(visible(part)):
            text.append("\n" + " " * INDENT).append(line.replace(_HELD, " "), style)
    return text


def answer_text(answer: Answer, *, explain: bool) -> Text | None:
    """Returns how an answer came about, where that was asked for: what ranked it, what proves it, what it took."""
    lines = []
    if explain:
        weights = ", ".join(f"{name} {weight:g}" for name, weight in answer.weights.items())
        lines.append(f"fused by {answer.fusion}: {weights} (chosen by {answer.weights_from})")
        lines.append(f"steps: {answer.pipeline}")
        lines += [f"  {step}: {_note(note)}" for step, note in answer.notes.items()]
        lines.append("milliseconds: " + ", ".join(f"{name} {ms:.1f}" for name, ms in answer.milliseconds.items()))
    if (proof := answer.proof) is not None:
        last = "all candidates are hits" if proof.least is None else f"the last hit has {proof.least:.4f}"
        lines.append(
            f"proven: no unseen document can score above {proof.threshold:.4f}, {last}; "
            f"{proof.candidates:,} documents scored, {proof.depth:,} of each strand, rounds: {proof.rounds}, "
            f"{proof.milliseconds:.1f} ms"
        )
    return Text(visible("\n".join(lines)), "dim") if lines else None


def _note(note: Any) -> str:
    if isinstance(note, Mapping):
        return "; ".join(f"{name} {_note(value)}" for name, value in note.items())
    if isinstance(note, (list, tuple)):
        return ", ".join(map(_note, note))
    return f"{note:.3g}" if isinstance(note, float) else str(note)


def _heading(hit: Hit) -> str:
    return cut(" ".join(hit.title.split()), 100) or hit.id


def cut(text: str, most: int) -> str:
    """Returns a text of at most so many characters, the last of them "…" where more would follow."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def _strands(hit: Hit) -> str:
    parts = [
        f"{name} {view.score:.3f} ({view.normalised:.2f}{f', #{view.rank}' if view.rank else ''})"
        for name, view in hit.strands.items()
    ]
    return "   ".join(part.replace(" ", _HELD) for part in parts)


def _terms(matches: Iterable[Match]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for match in matches:
        found.setdefault(match.strand, []).append(f"{match.term} {match.contribution:.2f}")
    return {
        strand: ", ".join(terms[:TERMS]) + (", ..." if len(terms) > TERMS else "") for strand, terms in found.items()
    }


def snippet(text: str, terms: Iterable[str] = (), length: int = SNIPPET) -> str:
    """Returns up to `length` characters around the first place where a term stands; the beginning if none does."""
    flat = " ".join(text.split())
    start = 0
    stems = [re.escape(term) for term in terms if len(term) > 2 and not term.startswith("##")]
    if stems and (found := re.search(rf"\b(?:{'|'.join(stems)})", flat, re.IGNORECASE)) and found.start() > length // 2:
        start = flat.rfind(" ", 0, found.start() - length // 3) + 1
    end = start + length
    return ("... " if start else "") + flat[start:end] + (" ..." if end < len(flat) else "")


def scores_table(header: Iterable[str], rows: Iterable[Iterable[str]], title: str | None = None) -> Table:
    """Returns a table whose first column is a name and whose others are numbers."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for column, name in enumerate(header):
        table.add_column(name, justify="left" if column == 0 else "right")
    for row in rows:
        table.add_row(*row)
    return table


def shift_lines(shifts: Iterable[Shift], baseline: str, measure: str, most: int) -> Iterator[Text]:
    """Yields each system's greatest wins and losses, `most` of each, with the documents that moved."""
    told: dict[tuple[str, bool], int] = {}
    for shift in shifts:
        won = shift.after > shift.before
        told[shift.system, won] = told.get((shift.system, won), 0) + 1
        if told[shift.system, won] > most:
            continue
        style = "green" if won else "red"
        change = f"{shift.after - shift.before:+.4f}"
        heading = f"  {shift.system} against {baseline}, {measure} {shift.before:.4f} -> {shift.after:.4f}"
        text = Text.assemble((change, style), heading, (f"  {shift.query}", "bold"))
        text.append(f"  {visible(' '.join(shift.text.split()))}")
        for moved in shift.documents:
            text.append("\n" + " " * INDENT + visible(moved_line(moved)))
        yield text


def moved_line(moved: Moved) -> str:
    """Returns a document that moved: ranks before and after, relevance, id, title."""
    before, after = (f"#{rank}" if rank else "-" for rank in (moved.before, moved.after))
    judged = "not judged" if moved.relevance is None else f"relevance {moved.relevance}"
    return "  ".join(filter(None, (f"{before} -> {after}", judged, moved.id, cut(" ".join(moved.title.split()), 80))))


def info_table(facts: Mapping[str, Any]) -> Table:
    """Returns what `Retriever.info` returned, as rows of name and value."""
    table = Table(show_header=False, box=None)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in _info_rows(facts):
        table.add_row(Text(name, "bold"), Text(visible(value)))
    return table


def _info_rows(facts: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    deleted = f" ({facts['deleted']:,} deleted ones still take room)" if facts["deleted"] else ""
    weights = ", ".join(f"{s} {w:g}" for s, w in facts["weights"].items() if s in facts["strands"])
    yield "index", facts["path"]
    yield "documents", f"{facts['documents']:,}{deleted}"
    yield "strands", ", ".join(facts["strands"])
    yield "fusion", f"{facts['fusion']} ({weights}; chosen by {facts['weights_from']})"
    yield "steps", facts["pipeline"]
    if (tuned := facts["tuned"]) is not None:
        gain = f"{tuned['measure']} {tuned['before']:.4f} -> {tuned['after']:.4f}"
        yield "tuned", f"by {tuned['queries']:,} judged queries ({tuned['source']}), {gain}, {tuned['date'][:10]}"
    if facts["calibrated"]:
        yield "calibrated", "yes: hits have a probability of relevance"
    yield (
        "lexical",
        f"BM25 k1={facts['bm25']['k1']:g} b={facts['bm25']['b']:g}, {facts['average_length']:.1f} terms a document",
    )
    for strand, identity in facts["encoders"].items():
        length = f", reads {identity['max_length']} tokens" if identity["max_length"] else ""
        yield f"{strand} encoder", f"{identity['name']} {identity['revision']} ({identity['activation']}{length})"
    if facts["dense_index"] is not None:
        found = [segment["dense"] for segment in facts["segments"] if segment["dense"]]
        yield "dense search", "; ".join([f"{facts['dense_index']}", *_dense_searches(found)])
    if facts["fields"]:
        yield "fields", ", ".join(f"{name}:{type}" for name, type in facts["fields"].items())
    yield "postings", f"{facts['postings']:,}"
    yield "size", f"{facts['bytes'] / 1e6:,.1f} MB in {counted(len(facts['segments']), 'segment')}"


def _dense_searches(segments: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Yields what the segments' dense indexes are, each kind once, with the least recall measured when it was built."""
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for facts in segments:
        kinds.setdefault(facts["spec"], []).append(facts)
    for spec, alike in kinds.items():
        recalls = [point["recall"] for facts in alike for point in facts.get("effort", ()) if point["k"] == 10]
        measured = f", recall@10 {min(recalls):.3f}" if recalls else ""
        yield f"{spec} in {counted(len(alike), 'segment')}{measured or ', exact'}"
