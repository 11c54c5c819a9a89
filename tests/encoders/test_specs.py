"""Names with options behind them."""

from __future__ import annotations

import contextlib
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.encoders import EncoderError, load_dense, load_joint, load_learned
from plait.encoders.cross import load_cross
from plait.encoders.families import recipes
from plait.encoders.families.reading import read_source, recipe_hash
from plait.encoders.model_files import UnsupportedModelError
from plait.encoders.specs import Spec, parse
from plait.retriever import Retriever

from .tiny import GOLDEN


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("embedded", "embedded", {}),
        ("owner/model", "owner/model", {}),
        (" owner/model ", "owner/model", {}),
        ("owner/model:family=splade", "owner/model", {"family": "splade"}),
        ("./a:b/c", "./a:b/c", {}),
        ("C:\\models\\mine", "C:\\models\\mine", {}),
        ("C:\\models\\mine:top=3", "C:\\models\\mine", {"top": 3}),
        ("m:top=3:prune=.5:normalize=no", "m", {"top": 3, "prune": 0.5, "normalize": False}),
        ("m:device=cuda:1:threads=2", "m", {"device": "cuda:1", "threads": 2}),
        ("m : top = 3 : pooling = max", "m", {"top": 3, "pooling": "max"}),
        ("m:query_prompt=find", "m", {"query_prompt": "find"}),
        ("m:query_prompt=", "m", {"query_prompt": ""}),
        ('m:{"query_prompt": "query: ", "top": 3}', "m", {"query_prompt": "query: ", "top": 3}),
        ('m:{"normalize": true, "prune": 0.1}', "m", {"normalize": True, "prune": 0.1}),
        ("m:{}", "m", {}),
    ],
)
def test_names_and_options(text, name, options):
    assert parse(text) == Spec(name, options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("m:colour=red", "'m:colour=red': there is no option 'colour'; there are: family, queries, pooling"),
        ("m:top=three", "'m:top=three': top is 'three', expected a whole number"),
        ("m:top=", "top is '', expected a whole number"),
        ("m:prune=little", "prune is 'little', expected a number"),
        ("m:normalize=perhaps", "normalize is 'perhaps', expected true or false"),
        ("m:top=1:top=2", "'m:top=1:top=2' gives an option twice"),
        ('m:{"top": 1.5}', "top is 1.5, expected a whole number"),
        ('m:{"top": [1]}', r"top is \[1\], expected a whole number"),
        ('m:{"query_prompt": 3}', "query_prompt is 3, expected a text"),
        ('m:{"top": 1', "no encoder"),
        ('m:{"top": }', "the options of .* are no JSON"),
        ('m:{"top": 1, "top": 2}', "gives an option twice"),
        (":top=3", "':top=3' names no model: begin with a name or a folder"),
        ('{"top": 3}', "no encoder"),
    ],
)
def test_options_that_cannot_be(text, message):
    with pytest.raises(EncoderError, match=message):
        load_learned(text)


def test_a_folder_may_look_like_options(tmp_path):
    (tmp_path / "model:top=3").mkdir()
    assert parse(str(tmp_path / "model:top=3")) == Spec(str(tmp_path / "model:top=3"))


def test_arguments_go_before_options():
    spec = parse("m:max_length=9:threads=1").with_options(max_length=7, precision=None)
    assert spec.options == {"max_length": 7, "threads": 1}
    assert spec.recipe == {"max_length": 7}


@given(st.dictionaries(st.sampled_from(["query_prompt", "document_prompt"]), st.text(), max_size=2))
def test_json_says_what_colons_cannot(options):
    assert parse(f"a/b:{json.dumps(options)}") == Spec("a/b", options)


def test_prompts_keep_their_spaces():
    assert parse("a/b:query_prompt=find : top = 3 ").options == {"query_prompt": "find ", "top": 3}
    assert parse("a/b:query_prompt=query: ").options == {"query_prompt": "query: "}


@given(
    st.dictionaries(st.sampled_from(["top", "max_length", "threads"]), st.integers(0, 10**6), max_size=3), st.booleans()
)
def test_numbers_come_back(numbers, flag):
    text = "".join(f":{name}={value}" for name, value in {**numbers, "normalize": str(flag).lower()}.items())
    assert parse("a/b" + text).options == {**numbers, "normalize": flag}


@given(st.text(max_size=30))
def test_a_text_is_a_name_or_an_error(text):
    with contextlib.suppress(EncoderError):
        assert isinstance(parse(text), Spec)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAIT_CACHE", str(tmp_path / "cache"))


# What needs no torch


def test_options_of_an_embedded_model():
    assert load_dense("embedded:max_length=17").identity.max_length == 17
    assert load_dense("embedded:max_length=17").joint is load_learned("embedded:max_length=17").joint
    with pytest.raises(EncoderError, match="option 'top' is not for 'embedded', whose vectors are made in one way"):
        load_learned("embedded:top=3")
    with pytest.raises(EncoderError, match="option 'family' is not for 'embedded'"):
        load_joint("embedded:family=splade")


def test_an_index_remembers_options(tmp_path, monkeypatch):
    folder = os.path.relpath(GOLDEN / "bert-masked")
    with Retriever.create(tmp_path / "index", learned=f"{folder}:max_length=8:precision=fp32") as retriever:
        retriever.add([{"_id": "1", "text": "a search engine"}, {"_id": "2", "text": "the lazy dog"}])
        retriever.commit()
        wanted = list(retriever.search("search engine"))
    monkeypatch.chdir(tmp_path)
    with Retriever.open("index") as again:
        assert list(again.search("search engine")) == wanted
        assert again.strand("learned").identity.max_length == 8


def recipe(name, strand="learned", **options):
    return read_source(GOLDEN / name, strand=strand, options=options).recipe


def test_a_recipe_is_its_family_changed_by_files_and_wishes():
    plain = recipe("bert-masked")
    assert (plain.family, plain.model, plain.max_length) == ("opensearch-doc", "masked", 64)
    assert plain.sparse == recipes.SparseRow(queries="idf", specials="all")
    wished = recipe("bert-masked", family="splade", top=7, prune=0.25, max_length=9, query_prompt="q ")
    assert wished.sparse == recipes.SparseRow(top=7, prune=0.25)
    assert (wished.max_length, wished.prompts.query) == (9, "q ")
    pooled = recipe("bert-pooled", "dense")
    assert (pooled.family, pooled.max_length, pooled.dense) == ("sentence-transformers", 48, recipes.DenseRow("mean"))
    assert recipe("distilbert-pooled", "dense", pooling="max", dimensions=4).dense.formula == "max+first4"
    assert len({recipe_hash(each) for each in (plain, wished, pooled)}) == 3


@pytest.mark.parametrize("family", list(recipes.FAMILIES))
def test_recipes_are_json(family):
    row = recipes.FAMILIES[family]
    idf = {"a": 1.5}
    whole = recipes.Recipe(family, row.sparse, row.dense, row.model or "masked", row.prompts, 512, idf)
    assert recipes.Recipe.from_json(json.loads(json.dumps(whole.to_json())), idf) == whole
    assert recipes.checked(whole) is whole
    with pytest.raises(TypeError):
        recipes.Recipe.from_json({**whole.to_json(), "colour": "red"}, idf)


def test_formulas_tell_families_apart():
    """What an identity shows: two families whose documents differ differ in it, or in their prompts."""
    told = {name: row.sparse.formula for name, row in recipes.FAMILIES.items() if row.sparse is not None}
    assert told["splade"] == "max+log1p+specials=none"
    assert told["opensearch-doc-v3"] == "max+log1p_log1p"
    assert told["opensearch-multilingual"] == "max+log1p>0.1"
    assert told["mistral-splade"] == "echo+max+log1p"
    assert told["promptreps"] == "last+log1p+own^128"
    assert told["prosper"] == "max+log1p+literal^256"


def test_the_limits_of_models(tmp_path):
    """What files say of the tokens that are read of a text; two positions of RoBERTa's are for padding."""

    def length(config, **files):
        for old in tmp_path.glob("*.json"):
            old.unlink()
        for name, value in {"config": {"model_type": "bert", **config}, **files}.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(value))
        return read_source(tmp_path, strand="dense").recipe.max_length

    assert length({}) == 512
    assert length({"max_position_embeddings": 256}) == 256
    assert length({"max_position_embeddings": 514, "model_type": "roberta"}) == 512
    assert length({"n_positions": 100, "model_type": "gpt2"}) == 100
    assert length({"max_position_embeddings": 8192}) == 512
    assert length({"max_position_embeddings": 8192}, tokenizer_config={"model_max_length": 2048}) == 2048
    assert length({"max_position_embeddings": 128}, tokenizer_config={"model_max_length": 2048}) == 128
    assert length({"max_position_embeddings": 99}, tokenizer_config={"model_max_length": 10**30}) == 99
    both = {"sentence_bert_config": {"max_seq_length": 40}, "tokenizer_config": {"model_max_length": 60}}
    assert length({"max_position_embeddings": 512}, **both) == 40


def test_what_only_sentence_transformers_runs(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    kinds = ["Transformer", "Pooling", "LSTM"]
    rows = [
        {"idx": i, "name": str(i), "path": "", "type": f"sentence_transformers.models.{k}"} for i, k in enumerate(kinds)
    ]
    (tmp_path / "modules.json").write_text(json.dumps(rows))
    with pytest.raises(UnsupportedModelError, match="has a module LSTM, which only sentence-transformers runs"):
        read_source(tmp_path, strand="dense")
    (tmp_path / "modules.json").write_text(json.dumps([rows[1], rows[0]]))
    with pytest.raises(UnsupportedModelError, match=r"modules in an order of their own \(Pooling, Transformer\)"):
        read_source(tmp_path, strand="dense")
    (tmp_path / "modules.json").write_text(json.dumps(rows[:2]))
    (tmp_path / "1_Pooling").mkdir()
    for settings, what in (
        ({"include_prompt": False}, "a pooling without"),
        ({"pooling_mode": "best"}, "a pooling best"),
    ):
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "mean", **settings}))
        with pytest.raises(UnsupportedModelError, match=what):
            read_source(tmp_path, strand="dense")
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    assert read_source(tmp_path, strand="dense").recipe.dense == recipes.DenseRow("mean", normalize=False)
    (tmp_path / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    with pytest.raises(UnsupportedModelError, match="has do_lower_case, which only sentence-transformers runs"):
        read_source(tmp_path, strand="dense")


@pytest.mark.parametrize(
    ("load", "name", "said"),
    [
        (load_joint, "embedded:chunks=mean", "'chunks' is not for load_joint, .* give it to both load_dense and load_"),
        (load_joint, "embedded:chunk_size=64", "'chunk_size' is not for load_joint"),
        (load_joint, "embedded:query_model=x", "'query_model' is not for load_joint"),
        (load_joint, "embedded:queries=static", "'queries' is not for 'embedded', whose vectors"),
        (
            load_learned,
            "embedded:queries=encoded",
            "'queries' is not for 'embedded', whose vectors are made in one way",
        ),
        (load_dense, "embedded:queries=encoded", "queries 'encoded' is not one of transformer, static"),
        *(
            (load, f"embedded:{option}=nonsense", said)
            for load in (load_dense, load_learned, load_joint)
            for option, said in (
                ("runtime", "runtime 'nonsense' is not one of onnx, torch, sentence-transformers"),
                ("revision", "revision=nonsense is for models of the hub; 'embedded' is here"),
            )
        ),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(load, name, said):
    with pytest.raises(EncoderError, match=said):
        load(name)


@pytest.mark.parametrize("load", [load_dense, load_learned, load_joint, load_cross])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        (None, "named by a text or the path of a folder, not by an object of the class NoneType"),
        (7, "not by an object of the class int"),
        ("x" * 5000, r"no (cross-)?encoder 'x{120}\.\.\.': it is neither"),
        ("a\0b", "no (cross-)?encoder 'a.x00b': it is neither"),
    ],
)
def test_what_names_no_model(load, name, said):
    with pytest.raises(EncoderError, match=said):
        load(name)
