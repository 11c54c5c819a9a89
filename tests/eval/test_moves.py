"""Wins and losses with the documents that moved, by hand."""

from __future__ import annotations

from plait.eval import Moved, Report, evaluate_runs, shifts
from plait.eval.moves import places_of

QRELS = {"q1": {"a": 2, "b": 1, "c": 0}, "q2": {"d": 1}, "q3": {"e": 1}}
OLD = {"q1": {"c": 4.0, "x": 3.0, "b": 2.0, "a": 1.0}, "q2": {"d": 1.0}, "q3": {"e": 1.0}}
NEW = {"q1": {"a": 4.0, "c": 3.0, "y": 2.0}, "q2": {"z": 2.0, "d": 1.0}, "q3": {"e": 5.0}}


def compared(**options) -> tuple:
    report: Report = evaluate_runs({"old": OLD, "new": NEW}, QRELS, measures="RR")
    return shifts(report, QRELS, baseline="old", measure="RR", **options)


def test_places_are_the_first_ten_and_all_relevant_documents():
    run = {"q": {f"d{i:02}": 100.0 - i for i in range(1, 31)}, "other": {"a": 1.0}}
    places = places_of(run, {"q": {"d20": 1, "d25": 0, "d99": 1}, "none": {"a": 1}})
    assert places == {"q": {**{f"d{i:02}": i for i in range(1, 11)}, "d20": 20}, "none": {}}
    assert places_of({"a": {"a": 2.0, "b": 1.0}}, {"a": {"b": 1}}) == {"a": {"a": 1, "b": 2}}


def test_wins_come_first_and_relevant_documents_lead():
    win, loss = compared(texts={"q1": "first"}, title=str.upper)
    assert (win.system, win.query, win.text, win.before, win.after) == ("new", "q1", "first", 1 / 3, 1.0)
    assert win.documents == (
        Moved("a", "A", 2, 4, 1),
        Moved("b", "B", 1, 3, None),
        Moved("c", "C", 0, 1, 2),
        Moved("x", "X", None, 2, None),
        Moved("y", "Y", None, None, 3),
    )
    assert (loss.query, loss.before, loss.after, loss.text) == ("q2", 1.0, 0.5, "")
    assert loss.documents == (Moved("d", "D", 1, 1, 2), Moved("z", "Z", None, None, 1))


def test_only_the_greatest_are_kept():
    assert [shift.query for shift in compared(most=0)] == []
    qrels = {f"q{i}": {"a": 1} for i in range(1, 6)}
    old = {query: {"a": 1.0} for query in qrels}
    new = {f"q{i}": {f"x{n}": 9.0 for n in range(i)} | {"a": 1.0} for i in range(1, 6)}
    report = evaluate_runs({"old": old, "new": new}, qrels, measures="RR")
    worst = shifts(report, qrels, baseline="old", measure="RR", most=2)
    assert [(shift.query, shift.after) for shift in worst] == [("q5", 1 / 6), ("q4", 1 / 5)]


def test_json():
    assert compared(title=str.upper)[1].to_json() == {
        "system": "new", "query": "q2", "text": "", "before": 1.0, "after": 0.5,
        "documents": (
            {"id": "d", "title": "D", "relevance": 1, "before": 1, "after": 2},
            {"id": "z", "title": "Z", "relevance": None, "before": None, "after": 1},
        ),
    }  # fmt: skip
