"""Plans from strands, from text and from TOML: what they become, and what is refused."""

from __future__ import annotations

import inspect

import pytest
from plait.eval import EvalError, Plan, default_plans, parse_plan, read_plans
from plait.eval.plans import options_of_run
from plait.retriever import Retriever


def test_every_strand_alone_then_fused():
    assert default_plans(["lexical", "dense"], fused={"fusion": "rrf"}) == (
        Plan("lexical", {"strands": ["lexical"], "weights": {"lexical": 1.0}}),
        Plan("dense", {"strands": ["dense"], "weights": {"dense": 1.0}}),
        Plan("fused", {"strands": ["lexical", "dense"], "fusion": "rrf"}),
    )
    assert [plan.name for plan in default_plans(["dense"])] == ["dense"]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("a=", {}),
        ("a=fusion=rrf", {"fusion": "rrf"}),
        ("a= strands=lexical,dense ; depth=50;", {"strands": "lexical,dense", "depth": 50}),
        ("a=weights=lexical=0.2,dense=1; exactness=0.5", {"weights": {"lexical": 0.2, "dense": 1.0}, "exactness": 0.5}),
        ("a=filter=year=2020", {"filter": "year=2020"}),
        ("a=filter=lang = 'en' AND year >= 2020", {"filter": "lang = 'en' AND year >= 2020"}),
    ],
)
def test_a_plan_in_one_word(text, options):
    assert parse_plan(text) == Plan("a", options)


def test_what_may_be_set_is_what_run_takes():
    parameters = list(inspect.signature(Retriever.run).parameters)
    assert [*options_of_run()] == [name for name in parameters if name not in ("self", "queries", "k")]


def test_an_option_that_run_gets_later_needs_no_change_here(monkeypatch):
    def run(self, queries, k=10, *, feedback: bool | None = None, rerank: str | bool = False, most: float = 0.5):
        """Stands for a later version."""

    monkeypatch.setattr(Retriever, "run", run)
    assert parse_plan("prf=feedback; rerank=cross; most=3").options == {
        "feedback": True, "rerank": "cross", "most": 3,
    }  # fmt: skip
    with pytest.raises(EvalError, match="no option 'fusion'; there are: feedback, rerank, most"):
        parse_plan("old=fusion=rrf")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fused", "a system is written NAME=OPTIONS, as 'rrf=fusion=rrf; weights="),
        ("=fusion=rrf", "a system is written NAME=OPTIONS"),
        ("a=fusion=rrf;fusion=convex", "system 'a' has an option twice: 'fusion=rrf;fusion=convex'"),
        ("a=fuse=rrf", "system 'a': no option 'fuse'; there are: strands, fusion, weights, "),
        ("a=k=5", "system 'a': k follows from the measures; leave it out"),
        ("a=weights=0.5", "system 'a': weights takes name=number pairs, as lexical=0.2,dense=0.8; not '0.5'"),
        ("a/b=fusion=rrf", "a system cannot be called 'a/b'"),
    ],
)
def test_text_that_is_no_plan(text, message):
    with pytest.raises(EvalError) as caught:
        parse_plan(text)
    assert str(caught.value).startswith(message)


def test_a_file_of_plans(tmp_path):
    path = tmp_path / "systems.toml"
    path.write_text("[rrf]\nfusion = 'rrf'\ndepth = 50\n\n['two words']\nweights = { lexical = 1, dense = 0.5 }\n")
    assert read_plans(path) == (
        Plan("rrf", {"fusion": "rrf", "depth": 50}),
        Plan("two words", {"weights": {"lexical": 1, "dense": 0.5}}),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a table for each system, as [rrf] with the line: fusion = 'rrf'"),
        ("fusion = 'rrf'", "expected a table for each system"),
        ("[a]\nfuse = 1", "system 'a': no option 'fuse'; there are: strands, fusion"),
        ("[a", "is no TOML file: "),
        ("[a]\n[a]", "is no TOML file: "),
    ],
)
def test_a_file_that_is_none(tmp_path, text, message):
    path = tmp_path / "systems.toml"
    path.write_text(text)
    with pytest.raises(EvalError) as caught:
        read_plans(path)
    assert str(caught.value).replace(f"{path}: ", f"{path} ").startswith(f"{path} {message}")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(EvalError, match=r"no\.toml cannot be read: No such file or directory"):
        read_plans(tmp_path / "no.toml")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fusion": "sum"}, "system 'x': no fusion 'sum'; there are: convex, rrf"),
        ({"strands": "dense"}, "system 'x': "),
        ({"depth": "many"}, "system 'x': depth is how many are wanted"),
        ({"weights": {"lexical": 0}}, "system 'x': no strand of lexical has a weight above 0"),
        ({"weights": {"lexical": -1}}, "system 'x': weights must be finite and not negative"),
        ({"weights": 5}, "system 'x': weights are numbers by strand, as {'lexical': 0.2, 'dense': 0.8}; not 5"),
        ({"weights": {"lexical": "a"}}, "system 'x': the weight of 'lexical' is a number, not 'a'"),
        ({"exactness": "a"}, "system 'x': exactness is a number, not 'a'"),
        ({"min_score": "a"}, "system 'x': min_score is a number, not 'a'"),
        ({"prove": "no"}, "system 'x': prove is True or False, not 'no'"),
        ({"filter": "year > 3"}, "system 'x': "),
    ],
)
def test_options_are_tried_before_hours_are_spent(lexical, options, message):
    with pytest.raises(EvalError) as caught:
        Plan("x", options).check(lexical)
    assert str(caught.value).startswith(message)
    Plan("x", {"strands": "lexical"}).check(lexical)
