"""Checkpoints and wishes that cannot be: each is an error that says what to do, and runs no code of a stranger."""

from __future__ import annotations

import json
import os
import pickle
import shutil

import numpy as np
import pytest
from plait.encoders import EncoderError, load_dense, load_joint, load_learned
from plait.encoders.families import recipes

from . import tiny
from .tiny import BASE, CAUSAL, LENGTH, TEXTS, close, unit

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
LOADS = {"learned": load_learned, "dense": load_dense, "joint": load_joint}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAIT_CACHE", str(tmp_path / "cache"))


def refused(message, spec, strand="learned", **options):
    with pytest.raises(EncoderError, match=message):
        LOADS[strand](str(spec), **options)


def with_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def with_tensors(folder, change):
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


# Heads that are not there


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "roberta", "modernbert"])
@pytest.mark.parametrize("said", [True, False], ids=["the config names one", "the config names none"])
def test_a_head_that_would_be_random(architecture, said):
    folder = tiny.copied(tiny.checkpoint(architecture, BASE))
    if said:
        name = type(tiny.model_of(tiny.checkpoint(architecture), tiny.MASKED)).__name__
        with_config(folder, architectures=[name])
    refused("has no masked language-model head .* would be random", f"{folder}:family=splade:runtime=torch")
    load_dense(f"{folder}:runtime=torch")  # it is a trunk all the same


def test_a_head_that_would_be_random_without_torch():
    """plait's own reader of BERT weights says it, too."""
    refused(
        "has no masked-LM head .*expansion needs one|would be random",
        tiny.copied(tiny.checkpoint("bert", BASE)),
        "learned",
    )


def test_a_decoder_without_its_head():
    folder = tiny.checkpoint("llama", BASE)
    refused("has no causal language-model head .lm_head.weight.* would be random", f"{folder}:family=mistral-splade")


def test_a_head_that_is_the_table_of_words():
    """A decoder whose head is tied to its table of words needs no tensor of it."""
    folder = tiny.checkpoint("qwen2", BASE)
    assert load_learned(f"{folder}:family=mistral-splade").encode_documents(["search"]).nnz > 0


@pytest.mark.parametrize("family", ["unicoil", "deepimpact", "bge-m3"])
def test_no_layer_that_weighs_tokens(family):
    refused(
        f"has no layer that weighs tokens .*family '{family}' needs", f"{tiny.checkpoint('bert', BASE)}:family={family}"
    )


def test_no_literal_residual():
    refused(
        "has no tensor literal.weight, which family 'prosper' needs",
        f"{tiny.checkpoint('llama', CAUSAL)}:family=prosper",
    )


def test_a_layer_of_another_width():
    folder = tiny.add_tensors(tiny.copied(tiny.checkpoint("bert", BASE)), tok_proj__weight=tiny.numbers(1, 16))
    refused("has no layer that weighs tokens", f"{folder}:family=unicoil")


# Damaged checkpoints


def test_a_tokenizer_with_more_tokens_than_the_model():
    folder = tiny.copied(tiny.checkpoint("llama", CAUSAL, vocab_size=300))
    message = r"the tokenizer knows token 319, the model 300 tokens: they do not belong together"
    refused(message, f"{folder}:family=mistral-splade")
    refused(message, f"{folder}:family=last-token", "dense")


def test_weights_that_are_no_numbers():
    def spoil(tensors):
        tensors["embeddings.LayerNorm.bias"][3] = torch.nan

    folder = with_tensors(tiny.copied(tiny.checkpoint("bert", BASE)), spoil)
    refused(
        "'embeddings.LayerNorm.bias' has values that are no numbers: the weights are damaged",
        f"{folder}:runtime=torch",
        "dense",
    )


@pytest.mark.parametrize("strand", ["learned", "joint"])
def test_a_head_that_is_no_number(strand):
    folder = tiny.copied(tiny.checkpoint("xlm-roberta", BASE))
    torch.save({"weight": torch.full((1, 32), torch.nan), "bias": torch.zeros(1)}, folder / "sparse_linear.pt")
    refused(
        "sparse_linear.* has values that are no numbers: the weights are damaged", f"{folder}:runtime=torch", strand
    )


def test_a_tensor_that_is_missing():
    folder = with_tensors(
        tiny.copied(tiny.checkpoint("bert", BASE)), lambda tensors: tensors.pop("encoder.layer.1.output.dense.weight")
    )
    refused("the weights have no tensor 'encoder.layer.1.output.dense.weight'", f"{folder}:runtime=torch", "dense")


def test_files_that_are_no_model(tmp_path):
    refused(r"no encoder .*nor a folder that exists", tmp_path / "nowhere")
    refused("is no model: it has no config.json; give the folder that holds it and the weights", tmp_path)
    (tmp_path / "config.json").write_text("{")
    refused("config.json is not valid JSON", tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    refused(r"tokenizer|weights|model\.safetensors", tmp_path)
    refused("transformers cannot open .*: OSError", f"{tmp_path}:runtime=torch", "dense")
    (tmp_path / "config.json").write_text('{"model_type": "unheard-of"}')
    refused("transformers knows no model type 'unheard-of': is it a newer one?", f"{tmp_path}:runtime=torch", "dense")


def test_broken_weights():
    folder = tiny.copied(tiny.checkpoint("modernbert"))
    (folder / "model.safetensors").write_bytes(b"\x00" * 64)
    refused("transformers cannot open .*: SafetensorError", f"{folder}:family=splade")


def test_a_folder_without_a_tokenizer():
    folder = tiny.copied(tiny.checkpoint("modernbert"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    refused("has no tokenizer that can be read", f"{folder}:family=splade")


# Code of strangers


class Malicious:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.system, (f"touch {self.mark}",))


def test_a_pickle_is_not_run(tmp_path):
    mark = tmp_path / "run"
    folder = tiny.copied(tiny.checkpoint("bert"))
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Malicious(mark)}))
    refused("transformers cannot open", f"{folder}:family=splade:runtime=torch")
    head = tiny.copied(tiny.checkpoint("xlm-roberta", BASE))
    (head / "sparse_linear.pt").write_bytes(pickle.dumps({"weight": Malicious(mark)}))
    refused("sparse_linear.pt cannot be read: .*[Ww]eights.only", f"{head}:runtime=torch")
    assert not mark.exists()


def test_weights_of_an_old_kind_are_read():
    folder = tiny.copied(tiny.checkpoint("bert"))
    state = tiny.model_of(folder, tiny.MASKED).state_dict()
    wanted = load_learned(f"{folder}:family=splade:runtime=torch").encode_documents(TEXTS)
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    close(load_learned(f"{folder}:family=splade:runtime=torch").encode_documents(TEXTS), wanted.toarray())


CONFIGURATION = """
from transformers import BertConfig
class HomeMadeConfig(BertConfig):
    model_type = "home-made"
"""
MODELING = """
from transformers import BertModel
from .configuration_home import HomeMadeConfig
class HomeMadeModel(BertModel):
    config_class = HomeMadeConfig
"""


@pytest.fixture
def home_made(tmp_path, monkeypatch):
    """A checkpoint that brings its own code."""
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    folder = tmp_path / "checkpoint"
    shutil.copytree(tiny.checkpoint("bert", BASE), folder)
    (folder / "configuration_home.py").write_text(CONFIGURATION)
    (folder / "modeling_home.py").write_text(MODELING)
    names = {"AutoConfig": "configuration_home.HomeMadeConfig", "AutoModel": "modeling_home.HomeMadeModel"}
    return with_config(folder, model_type="home-made", architectures=["HomeMadeModel"], auto_map=names)


def test_code_that_comes_with_a_model_is_run_only_where_it_is_wished(home_made):
    refused(
        r"needs Python code that comes with the model \(configuration_home.HomeMadeConfig\), which is not run unless "
        r"you say so: NAME:trust_remote_code=true", home_made, "dense"
    )  # fmt: skip
    refused("trust_remote_code=true", f"{home_made}:trust_remote_code=false:family=contriever", "dense")
    found = load_dense(f"{home_made}:trust_remote_code=true", max_length=LENGTH).encode_documents(TEXTS)
    states = tiny.states_of(tiny.checkpoint("bert", BASE), tiny.token_ids(tiny.checkpoint("bert", BASE), TEXTS))
    close(found, np.stack([each.mean(0).numpy() for each in states]))


def test_code_that_is_not_needed_is_not_run(tmp_path):
    folder = with_config(
        tiny.copied(tiny.checkpoint("bert", BASE)), auto_map={"AutoModel": "modeling_home.HomeMadeModel"}
    )
    (folder / "modeling_home.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
    load_dense(f"{folder}:runtime=torch").encode_documents(["a"])
    assert not (tmp_path / "run").exists()


# Wishes


@pytest.mark.parametrize(
    ("strand", "options", "message"),
    [
        ("learned", "family=colbert", "no encoder family 'colbert'; there are: splade-v1, splade, "),
        ("learned", "family=e5", "family 'e5' fills the strand dense, not learned"),
        ("dense", "family=splade", "family 'splade' fills the strand learned, not dense"),
        ("joint", "family=splade", "family 'splade' fills the strand learned, not dense"),
        ("joint", "runtime=torch", "no joint checkpoint: if it is of a family of both strands, name it: bge-m3,"),
        ("learned", "pooling=mean:runtime=torch", "pooling 'mean' is not one of max, sum, last"),
        ("dense", "pooling=sum:runtime=torch", "pooling 'sum' is not one of mean, cls, max, last, weightedmean"),
        ("learned", "activation=gelu:runtime=torch", "activation 'gelu' is not one of log1p, log1p_log1p, relu"),
        ("learned", "queries=lookup:runtime=torch", "queries 'lookup' is not one of encoded, "),
        ("dense", "queries=idf:runtime=torch", "queries 'idf' is not one of encoded, lookup"),
        ("learned", "specials=some:runtime=torch", "specials 'some' is not one of all, first, none"),
        ("learned", "queries=summed:runtime=torch", "queries 'summed' add up the weights of own tokens; head 'logits'"),
        (
            "learned",
            "normalize=true:runtime=torch",
            "option 'normalize' is not for the strand learned; its options: act",
        ),
        ("learned", "dimensions=8:runtime=torch", "option 'dimensions' is not for the strand learned"),
        ("dense", "top=8:runtime=torch", "option 'top' is not for the strand dense; its options: dimensions, "),
        ("dense", "prune=.1:runtime=torch", "option 'prune' is not for the strand dense"),
        ("learned", "prune=1:runtime=torch", "prune is 1.0, expected a share of the largest weight"),
        ("learned", "prune=nan:runtime=torch", "prune is nan, expected a share of the largest weight"),
        ("learned", "top=-1:runtime=torch", "top is -1, expected a whole number from 0"),
        ("dense", "dimensions=-1:runtime=torch", "dimensions is -1, expected a whole number from 0"),
        ("dense", "max_length=65:runtime=torch", "max_length is 65, expected a whole number from 3 to 64"),
        ("dense", "max_length=2:runtime=torch", "max_length is 2, expected a whole number from 3 to 64"),
        (
            "dense",
            "family=e5:runtime=torch:max_length=5",
            r"the prompt has 1\d tokens, the model reads 5: raise max_length",
        ),
        ("dense", "runtime=tensorflow", "runtime 'tensorflow' is not one of onnx, torch, sentence-transformers"),
        ("dense", "runtime=torch:precision=int4", "precision 'int4' is not one of fp32, bf16, fp16"),
        ("dense", "runtime=torch:precision=int8", "precision 'int8' is not one of fp32, bf16, fp16"),
        ("dense", "precision=int4", "precision 'int4'"),
        ("dense", "device=cuda:7", "there is no device 'cuda:7' here .*: use device=cpu"),
        ("dense", "device=abacus", "there is no device 'abacus' here .*: use device=cpu"),
        ("dense", "runtime=onnx:device=cuda", "device 'cuda' is for runtime torch: onnx runs on the processor"),
        ("dense", "runtime=torch:threads=0", "threads is 0, expected a whole number from 1"),
        ("dense", "runtime=torch:token_budget=0", "token_budget is 0, expected a whole number from 1"),
        ("dense", "family=static", "is no static model: it has no table of embeddings, but a transformer"),
        ("learned", "colour=red", "there is no option 'colour'; there are: family, queries"),
    ],
)
def test_wishes_that_cannot_be(strand, options, message):
    refused(message, f"{tiny.checkpoint('bert')}:{options}", strand)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_decoder_does_not_say_its_family(architecture):
    refused(
        r"is a decoder \(\w+\): name its family, as in NAME:family=mistral-splade; the families are",
        tiny.checkpoint(architecture, CAUSAL),
    )


@pytest.mark.parametrize("options", ["", ":runtime=torch"])
def test_queries_of_a_checkpoint_have_no_table(options):
    folder = tiny.checkpoint("bert", BASE)
    refused("has no static query table: use queries='transformer'", f"{folder}{options}", "dense", queries="static")
    asked, plain = load_dense(f"{folder}{options}", queries="transformer"), load_dense(f"{folder}{options}")
    np.testing.assert_array_equal(asked.encode_queries(["a"]), plain.encode_queries(["a"]))


def test_more_numbers_than_there_are():
    """All are kept then; the vector is no longer."""
    assert load_dense(f"{tiny.checkpoint('bert', BASE)}:dimensions=999:runtime=torch").identity.dim == 32


def test_an_idf_of_another_vocabulary():
    folder = tiny.copied(tiny.checkpoint("bert"), idf={"Ġsearch": 3.5, "Ġengine": 2.0})
    message = "idf.json weighs no token of the tokenizer .it begins with 'Ġ.*: take the idf.json of this model, or none"
    refused(message, f"{folder}:runtime=torch")
    refused(message, folder)
    load_learned(f"{folder}:family=splade:runtime=torch")  # whose queries are none of it


def test_options_that_sentence_transformers_has_not():
    folder = tiny.copied(
        tiny.checkpoint("bert", BASE),
        modules=[
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        ],
    )
    (folder / "1_Pooling").mkdir()
    settings = {"embedding_dimension": 32, "pooling_mode": ["mean", "max"]}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    found = load_dense(folder).encode_documents(TEXTS)
    assert found.shape == (len(TEXTS), 64)
    close(found, unit(found))
    for option in ("normalize=false", "query_prompt=a", "device=cuda", "family=e5", "precision=int8"):
        refused(
            f"option '{option.partition('=')[0]}' is not for .*sentence-transformers", f"{folder}:{option}", "dense"
        )


def test_options_that_a_table_has_not(tmp_path):
    from safetensors.torch import save_file

    tiny.write_tokenizer(tmp_path, tiny.WORDPIECE)
    (tmp_path / "config.json").write_text('{"model_type": "model2vec"}')
    refused("model.safetensors is missing: a static model is a table in it and a tokenizer.json", tmp_path, "dense")
    save_file({"embeddings": tiny.numbers(180, 8)}, tmp_path / "model.safetensors")
    assert load_dense(f"{tmp_path}:family=static:dimensions=4").identity.dim == 4
    refused("is a static model, which makes dense vectors alone: use load_dense", tmp_path, "learned")
    refused(
        "option 'pooling' is not for .*, which is a table of embeddings; its options: chunk",
        f"{tmp_path}:pooling=max",
        "dense",
    )
    save_file({"embeddings": tiny.numbers(170, 8)}, tmp_path / "model.safetensors")
    refused("the tokenizer knows token 179, the table has 170 rows: they do not belong together", tmp_path, "dense")
    save_file({"embeddings": torch.full((180, 8), torch.nan)}, tmp_path / "model.safetensors")
    refused("has values that are no numbers: it is damaged", tmp_path, "dense")
    save_file({"table": tiny.numbers(180, 8)}, tmp_path / "model.safetensors")
    refused("has no table of embeddings .embeddings or embedding.weight.", tmp_path, "dense")
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    refused("cannot be read as safetensors", tmp_path, "dense")


def test_every_family_is_tested():
    """The other modules name each; here none is forgotten."""
    files = ("test_families_sparse.py", "test_families_dense.py", "test_families_joint.py")
    tested = "".join((tiny.GOLDEN.parent / "encoders" / name).read_text(encoding="utf-8") for name in files)
    unnamed = {"sentence-transformers", "static"}  # their folders say it
    assert [name for name in recipes.FAMILIES if f'"{name}"' not in tested and name not in unnamed] == []
