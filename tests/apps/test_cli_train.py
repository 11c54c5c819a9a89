"""`plait train` as a person meets it."""

from __future__ import annotations

import os
import signal
import sys

import numpy as np
import pytest
from plait.apps.cli import app
from plait.apps.training import Request, command_of, parsed_settings
from plait.retriever import QueryError
from plait.train import RECIPES
from plait.train.errors import TrainError
from plait.train.sets import TrainingSet, split

from ..train import tiny

USUAL = [f"--set={name}={value}" for name, value in (
    ("documents", 12), ("seeds", 4), ("queries", 24), ("terms", 0), ("rank", 8), ("max_length", 24),
    ("encoder_length", 32), ("mining", '["lexical"]'), ("teachers", "{bm25=1}"), ("precision", "fp32"),
)]  # fmt: skip


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAIT_CACHE", str(tmp_path / "models"))


@pytest.fixture
def given(tmp_path):
    pytest.importorskip("transformers")
    return tiny.base(tmp_path / "base"), tiny.pairs(tmp_path / "pairs.jsonl")


def test_settings_are_toml_or_words():
    given = ["steps=3", "rate=1e-3", "literal=false", "penalty=l1", 'mining=["dense"]', "teachers={dense=0.6, bm25=1}"]
    assert parsed_settings(given) == {
        "steps": 3, "rate": 0.001, "literal": False, "penalty": "l1", "mining": ["dense"],
        "teachers": {"dense": 0.6, "bm25": 1},
    }  # fmt: skip
    with pytest.raises(QueryError, match="--set takes key=value"):
        parsed_settings(["steps"])
    with pytest.raises(QueryError, match="--set names steps twice"):
        parsed_settings(["steps=1", "steps=2"])


def test_the_command_for_the_card(tmp_path):
    request = Request("splade", ["a b.jsonl"], "base", tmp_path / "out", ["steps=3"], {}, False, False)
    options = {"held_out": 0.02, "evaluate": ["x", "y"], "evaluate_every": 5, "skip_bad": True}
    assert command_of(request, options) == (
        f"plait train splade 'a b.jsonl' --out {tmp_path / 'out'} --base base --set steps=3 --held-out 0.02 "
        "--eval x --eval y --eval-every 5 --skip-bad"
    )


def test_the_recipes_are_listed(plait):
    said = plait("train", "--list")
    assert all(name in said.out for name in RECIPES)
    assert "penalty=l0" in said.out
    assert "usual: strand=learned" in said.out
    found = plait("train", "--list", "--json").json
    assert list(found) == list(RECIPES)
    assert found["inference-free"] == {}
    assert found["inference-free-l0"] == {"penalty": "l0", "activation": "log1p_log1p"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give a recipe, data and --out"),
        (["inference-free"], "give a recipe, data and --out"),
        (["nothing", "x.jsonl", "--out", "o"], "no recipe 'nothing'"),
        (["splade", "x.jsonl", "--out", "o", "--set", "rates=1"], "a recipe has no field 'rates'"),
        (["splade", "x.jsonl", "--out", "o", "--set", "steps=many"], "steps is 'many', expected a whole number"),
        (["splade", "x.jsonl", "--out", "o", "--set", "steps"], "--set takes key=value"),
    ],
)
def test_mistakes_end_in_a_line(plait, words, message):
    assert message in plait("train", *words, code=1).err


@pytest.mark.parametrize("amount", [float("inf"), float("nan"), -1.0])
def test_what_is_held_out_is_a_finite_number(amount):
    with pytest.raises(TrainError, match="above 0 and finite, not"):
        split(TrainingSet(["a"], ["q"], np.zeros(1, np.int64), np.zeros(1, np.int32), ("x",)), amount)


def test_without_torch(plait, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    said = plait("train", "splade", tmp_path, "--out", tmp_path / "o", code=1)
    assert 'pip install "plait[train]"' in said.err


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
class TestTraining:
    def test_trains_and_shows(self, plait, given, tmp_path):
        base, pairs = given
        beir = tiny.beir(tmp_path / "stories")
        out = tmp_path / "out"
        command = ["train", "inference-free", pairs, "--base", base, "--out", out, "--steps", 6, *USUAL]
        said = plait(*command, "--eval", beir, "--eval-every", 3, "--held-out", 6, "--device", "cpu")
        for part in ("held out", "stories", "fused", "dense half unchanged", f"model: {out / 'model'}"):
            assert part in said.out
        assert "step 3, stories: learned " in said.err
        assert "34 queries, 34 documents" in said.err
        index = ["index", tmp_path / "docs.jsonl", "--out", tmp_path / "index"]
        (tmp_path / "docs.jsonl").write_text('{"id": "a", "text": "snow in winter"}\n')
        plait(*index, "--learned", out / "model", "--dense", out / "model")
        assert '"a"' in plait("search", tmp_path / "index", "snow", "--json").out

    def test_json(self, plait, given, tmp_path):
        base, pairs = given
        command = ["train", "splade-doc", pairs, "--base", base, "--out", tmp_path / "out", "--steps", 2, *USUAL]
        found = plait(*command, "--held-out", 0, "--device", "cpu", "--json").json
        assert (found["steps"], found["finished"], found["evaluation"]) == (2, True, [])
        assert found["command"].startswith("plait train splade-doc")

    def test_what_cannot_be_a_base(self, plait, given, tmp_path):
        _, pairs = given
        said = plait("train", "splade", pairs, "--base", tmp_path, "--out", tmp_path / "o", code=1)
        assert "the base cannot be used" in said.err

    @pytest.mark.skipif(os.name == "nt", reason="signals")
    def test_ctrl_c_says_how_to_go_on(self, process, given, tmp_path):
        base, pairs = given
        options = ["--steps", "100000", "--held-out", "8", "--eval-every", "2", "--device", "cpu"]
        one = process("train", "inference-free", pairs, "--base", base, "--out", tmp_path / "out", *USUAL, *options)
        for line in one.stderr:
            if line.startswith(b"step 2,"):
                break
        one.send_signal(signal.SIGINT)
        rest = one.stderr.read().decode()
        assert one.wait() == 130
        assert "steps, which are saved; run the same command again to go on" in rest
        assert (tmp_path / "out" / "training" / "state.safetensors").is_file()


def test_help_is_there(plait):
    said = plait("train", "--help")
    for option in ("--base", "--set", "--eval-every", "--exclude", "--fresh", "--list"):
        assert option in said.out
    assert "train" in {command.name for command in app.registered_commands}
