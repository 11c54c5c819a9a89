"""Recipes: the named ones, what changes them, and what is said about a wrong value."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.train.errors import TrainError
from plait.train.recipe import RECIPES, Recipe, recipe_of


def toml(values):
    """Returns TOML of a recipe's fields: plain values first, then the tables."""
    plain = [f"{name} = {json.dumps(value)}" for name, value in values.items() if not isinstance(value, dict)]
    tables = [
        "\n".join([f"[{name}]", *(f"{json.dumps(key)} = {json.dumps(weight)}" for key, weight in value.items())])
        for name, value in values.items()
        if isinstance(value, dict)
    ]
    return "\n".join([*plain, *tables])


def test_the_named_recipes_are_the_promised_ones():
    names = ["splade", "splade-doc", "inference-free", "inference-free-l0", "plait-mini", "further", "lean"]
    names += ["taught", "static-query"]
    assert list(RECIPES) == names
    assert {name: recipe.name for name, recipe in RECIPES.items()} == {name: name for name in RECIPES}
    assert (RECIPES["inference-free-l0"].penalty, RECIPES["inference-free-l0"].activation) == ("l0", "log1p_log1p")
    assert RECIPES["splade"].query_side == "encoded"
    assert RECIPES["splade-doc"].query_side == "binary"
    assert RECIPES["inference-free"].query_side == "idf"
    assert RECIPES["static-query"].strand == "dense"


@pytest.mark.parametrize("name", RECIPES)
def test_json_and_toml_hold_all_of_a_recipe(name, tmp_path):
    recipe = RECIPES[name]
    values = recipe.to_json()
    assert list(values) == [field.name for field in fields(Recipe)]
    assert RECIPES["inference-free"].changed(values) == recipe
    path = tmp_path / "mine.toml"
    path.write_text(toml({"base": "inference-free", **values}), encoding="utf-8")
    assert recipe_of(path) == recipe


def test_a_file_changes_its_base_and_gives_its_name(tmp_path):
    path = tmp_path / "short.toml"
    path.write_text('base = "splade-doc"\nsteps = 7\nrate = 1\n[teachers]\nbm25 = 1\n', encoding="utf-8")
    recipe = recipe_of(path, {"seed": 5})
    assert recipe == RECIPES["splade-doc"].changed(
        {"name": "short", "steps": 7, "rate": 1.0, "teachers": {"bm25": 1}, "seed": 5}
    )
    path.write_text("steps = 8\n", encoding="utf-8")
    assert recipe_of(str(path)) == RECIPES["inference-free"].changed({"name": "short", "steps": 8})


@given(st.integers(1, 10**9), st.floats(0, 10), st.integers(0, 2**63 - 1))
def test_numbers_in_range_are_taken_as_they_are(steps, rate, seed):
    recipe = RECIPES["inference-free"].changed({"steps": steps, "rate": rate, "seed": seed})
    assert (recipe.steps, recipe.rate, recipe.seed) == (steps, rate, seed)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"step": 3}, "a recipe has no field 'step'; it has: name, strand, steps, "),
        ({"steps": 0}, "steps is 0, expected a number from 1 to 1e+09"),
        ({"steps": 3.5}, "steps is 3.5, expected a whole number"),
        ({"steps": True}, "steps is True, expected a whole number"),
        ({"rate": "fast"}, "rate is 'fast', expected a number"),
        ({"rate": float("nan")}, "rate is nan, expected a number from 0 to 10"),
        ({"gelu": 1}, "gelu is 1, expected true or false"),
        ({"name": 3}, "name is 3, expected a text"),
        ({"seed": -1}, "seed is -1, expected a number from 0 to "),
        ({"penalty": "l2"}, "penalty is 'l2', expected one of flops, l0, l1, none"),
        ({"mining": "dense"}, "mining is 'dense', expected a list of names"),
        ({"mining": ["google"]}, "mining has 'google', expected some of lexical, learned, dense"),
        ({"losses": ["kl"]}, "losses is ['kl'], expected a table of names and numbers"),
        ({"losses": {}}, "losses is empty, expected some of kl, infonce, margin_mse"),
        ({"losses": {"mse": 1}}, "losses has 'mse', expected some of kl, infonce, margin_mse"),
        ({"losses": {"kl": 0}}, "losses: every weight is 0"),
        ({"losses": {"kl": -1}}, "losses: the weight of 'kl' is -1, expected a number from 0"),
        ({"teachers": {"bm25": "much"}}, "teachers: the weight of 'bm25' is 'much', expected a number from 0"),
        ({"teachers": {}}, "the losses kl and margin_mse need teachers: give some, or use infonce alone"),
        ({"seeds": 97}, "seeds is 97, but a step has 96 documents"),
        ({"max_length": 2}, "max_length and encoder_length are at least 3: [CLS], a token, [SEP]"),
        ({"silent": "klingon"}, "silent is 'klingon', expected nothing or one of dutch, english, "),
        (
            {"silent": "english", "pooling": "sum"},
            "silent is 'english', expected nothing: with pooling sum every token",
        ),
        ({"full_layers": 1, "pooling": "sum"}, "full_layers is 1, expected 0: with pooling sum every token counts"),
        ({"full_layers": -2}, "full_layers is -2, expected a number from -1 to 1000"),
        ({"used": -1}, "used is -1, expected a number from 0 to "),
        (
            {"pooling": "sum", "activation": "log1p_log1p"},
            "activation is 'log1p_log1p', expected log1p: pooling sum adds up log(1 + logit)",
        ),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(changes, said, tmp_path):
    with pytest.raises(TrainError) as caught:
        RECIPES["inference-free"].changed(changes)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"losses": {}}, "losses is empty, expected some of dense, states, terms, own, order"),
        ({"losses": {"kl": 1.0}}, "losses has 'kl', expected some of dense, states, terms, own, order"),
        ({"full_layers": 0}, "full_layers is 0, expected at least 1: strand both is for what merges"),
        ({"losses": {"order": 1.0}, "seeds": 33}, "seeds is 33, but a step has 32 documents"),
        ({"prune": 0.1}, "prune is 0.1, but strand both keeps what its base has: leave it 0.0"),
        ({"idf": "trained"}, "idf is 'trained', but strand both keeps what its base has: leave it 'corpus'"),
    ],
)
def test_a_wrong_value_of_a_recipe_for_both_halves_is_named(changes, said):
    with pytest.raises(TrainError) as caught:
        RECIPES["lean"].changed(changes)
    assert str(caught.value) == said


def test_infonce_alone_needs_no_teacher():
    alone = RECIPES["inference-free"].changed({"losses": {"infonce": 1.0, "kl": 0.0}, "teachers": {}})
    assert alone.teachers == {}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("steps = 0", "mine.toml: steps is 0, expected a number from 1 to 1e+09"),
        ('base = "spade"', "mine.toml: base is 'spade', expected one of splade, "),
        ('base = ["splade"]', "mine.toml: base is ['splade'], expected one of splade, "),
        ("steps 3", "mine.toml is no TOML file: "),
        ("seed = " + "[" * 5000, "mine.toml is no TOML file: values lie too deep inside each other"),
    ],
)
def test_a_wrong_file_is_named(content, said, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(TrainError) as caught:
        recipe_of(path)
    assert said in str(caught.value)


def test_no_such_recipe_or_file(tmp_path):
    with pytest.raises(TrainError, match=r"^no recipe 'spade': it is neither splade, .*, nor a \.toml file$"):
        recipe_of("spade")
    with pytest.raises(TrainError, match=r"none\.toml cannot be read: "):
        recipe_of(tmp_path / "none.toml")


@pytest.mark.beside_torch
def test_recipes_and_batches_need_no_torch():
    source = (
        "import sys, plait.train.recipe, plait.train.batches\nassert not {'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
