"""Dense families against sentence-transformers, model2vec and the textbook: transformers, one text at a time."""

from __future__ import annotations

import json

import numpy as np
import pytest
from plait.encoders import EncoderError, load_dense
from plait.encoders.families import lookup
from plait.encoders.families.encoder import FamilyDense
from plait.encoders.torch_models import TorchDenseEncoder

from . import tiny
from .tiny import BASE, LENGTH, TEXTS, close, unit

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

LONG = TEXTS[-2]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def opened(folder, family=None, **options):
    given = {"runtime": "torch", **({"family": family} if family else {}), **options}
    return load_dense(str(folder) + "".join(f":{name}={value}" for name, value in given.items()))


def states(folder, texts=TEXTS, length=LENGTH):
    return tiny.states_of(folder, tiny.token_ids(folder, texts, length))


def means(folder, texts=TEXTS):
    return np.stack([each.mean(0).numpy() for each in states(folder, texts)])


def both(encoder, wanted):
    close(encoder.encode_documents(TEXTS), wanted)
    close(encoder.encode_queries(TEXTS), wanted)


# Plain transformers folders

ENCODERS = ["bert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta", "modernbert"]


@pytest.mark.parametrize("architecture", ENCODERS)
def test_a_plain_folder_is_pooled_by_mean(architecture):
    folder = tiny.checkpoint(architecture, BASE)
    both(opened(folder, max_length=LENGTH), means(folder))


def test_contriever_is_not_normalised():
    folder = tiny.checkpoint("bert", BASE)
    encoder = opened(folder, "contriever")
    both(encoder, means(folder))
    assert encoder.identity.activation == "mean"


def test_e5_has_prompts():
    folder = tiny.checkpoint("bert", BASE)
    encoder = opened(folder, "e5")
    close(encoder.encode_documents(TEXTS), unit(means(folder, [f"passage: {text}" for text in TEXTS])))
    close(encoder.encode_queries(TEXTS), unit(means(folder, [f"query: {text}" for text in TEXTS])))


def test_bge_has_an_instruction_before_queries():
    folder = tiny.checkpoint("bert", BASE)
    encoder = opened(folder, "bge")
    first = [each[0].numpy() for each in states(folder)]
    close(encoder.encode_documents(TEXTS), unit(np.stack(first)))
    prompt = "Represent this sentence for searching relevant passages: "
    first = [each[0].numpy() for each in states(folder, [prompt + text for text in TEXTS])]
    close(encoder.encode_queries(TEXTS), unit(np.stack(first)))
    first = [each[0].numpy() for each in states(folder, ["find " + text for text in TEXTS])]
    close(
        opened(folder, "bge", query_prompt="find ").encode_queries(["" + text for text in TEXTS]), unit(np.stack(first))
    )


@pytest.mark.parametrize(
    ("architecture", "around"), [("qwen3", tiny.END), ("llama", tiny.BOTH_ENDS), ("gpt2", tiny.BEGIN)]
)
def test_the_last_token_of_a_decoder(architecture, around):
    folder = tiny.checkpoint(architecture, BASE, around=around)
    last = np.stack([each[-1].numpy() for each in states(folder)])
    both(opened(folder, "last-token"), unit(last))


def test_a_decoder_reads_texts_of_any_length():
    """Without a limit of positions a text is read as far as it is asked for."""
    folder = tiny.checkpoint("qwen3", BASE, around=tiny.END)
    found = opened(folder, "last-token", max_length=500).encode_documents([LONG])
    close(found, unit(np.stack([each[-1].numpy() for each in states(folder, [LONG], 500)])))


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "last", "weightedmean"])
def test_pooling_can_be_chosen(pooling):
    folder = tiny.checkpoint("roberta", BASE)
    pools = {
        "mean": lambda each: each.mean(0),
        "cls": lambda each: each[0],
        "max": lambda each: each.amax(0),
        "last": lambda each: each[-1],
        "weightedmean": lambda each: (
            (each * torch.arange(1, len(each) + 1)[:, None]).sum(0) / torch.arange(1, len(each) + 1).sum()
        ),
    }
    wanted = np.stack([pools[pooling](each).numpy() for each in states(folder)])
    both(opened(folder, pooling=pooling, normalize="false"), wanted)
    both(opened(folder, pooling=pooling, normalize="true"), unit(wanted))


# sentence-transformers


def sentence_folder(*modules, **options):
    """Returns a folder that sentence-transformers wrote, and what wrote it."""
    sentence = pytest.importorskip("sentence_transformers")
    theirs = sentence.SentenceTransformer(modules=list(modules), device="cpu", **options)
    folder = tiny.fresh("sentence-transformers")
    theirs.save(str(folder))
    return folder, theirs


def transformer(architecture="bert", **changes):
    pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer.modules import Transformer

    return Transformer(str(tiny.checkpoint(architecture, BASE, **changes)), max_seq_length=48)


def pooling(mode, **options):
    from sentence_transformers.sentence_transformer.modules import Pooling

    return Pooling(32, pooling_mode=mode, **options)


@pytest.mark.parametrize("mode", ["mean", "cls", "max", "lasttoken", "weightedmean"])
def test_sentence_transformers_poolings(mode):
    folder, theirs = sentence_folder(transformer(), pooling(mode), similarity_fn_name="dot")
    ours = opened(folder)
    assert isinstance(ours, FamilyDense)
    assert ours.identity.max_length == 48
    both(ours, theirs.encode(TEXTS))


def test_what_is_compared_by_cosine_has_length_one():
    folder, theirs = sentence_folder(transformer(), pooling("mean"), similarity_fn_name="cosine")
    both(opened(folder), theirs.encode(TEXTS, normalize_embeddings=True))


def test_linear_layers_and_normalisation():
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize

    torch.manual_seed(5)
    layers = [Dense(32, 24), Dense(24, 12, bias=False, activation_function=torch.nn.Identity())]
    folder, theirs = sentence_folder(transformer(), pooling("mean"), *layers, Normalize(), similarity_fn_name="dot")
    ours = opened(folder)
    assert ours.identity.dim == 12
    both(ours, theirs.encode(TEXTS))
    cut = theirs.encode(TEXTS, truncate_dim=5, normalize_embeddings=True)
    both(opened(folder, dimensions=5), cut)


def test_many_linear_layers_stay_in_order():
    from sentence_transformers.sentence_transformer.modules import Dense

    torch.manual_seed(6)
    layers = [Dense(32, 32) for _ in range(10)]
    folder, theirs = sentence_folder(transformer(), pooling("cls"), *layers, similarity_fn_name="dot")
    assert (folder / "11_Dense").is_dir()
    both(opened(folder), theirs.encode(TEXTS))


def test_truncate_dim_of_a_folder():
    folder, theirs = sentence_folder(transformer(), pooling("mean"), similarity_fn_name="dot")
    path = folder / "config_sentence_transformers.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "truncate_dim": 7}))
    ours = opened(folder)
    assert ours.identity.dim == 7
    both(ours, theirs.encode(TEXTS, truncate_dim=7))


def test_prompts_of_a_folder():
    prompts = {"query": "ask: ", "document": "tell: "}
    folder, theirs = sentence_folder(transformer("mpnet"), pooling("mean"), prompts=prompts, similarity_fn_name="dot")
    ours = opened(folder)
    close(ours.encode_queries(TEXTS), theirs.encode_query(TEXTS))
    close(ours.encode_documents(TEXTS), theirs.encode_document(TEXTS))
    assert np.abs(ours.encode_queries(["a"]) - ours.encode_documents(["a"])).max() > 1e-3
    other = opened(folder, query_prompt="", document_prompt="say ")
    close(other.encode_queries(TEXTS), theirs.encode(TEXTS, prompt=""))
    close(other.encode_documents(TEXTS), theirs.encode(TEXTS, prompt="say "))


def left_to_sentence_transformers():
    from sentence_transformers.sentence_transformer.modules import Dense, LayerNorm, Normalize

    torch.manual_seed(8)
    return {
        "two poolings": [pooling(("mean", "max"))],
        "a pooling by square root": [pooling("mean_sqrt_len_tokens")],
        "a module of another kind": [pooling("mean"), LayerNorm(32)],
        "an order of their own": [pooling("mean"), Normalize(), Dense(32, 8)],
    }


@pytest.mark.parametrize(
    "case", ["two poolings", "a pooling by square root", "a module of another kind", "an order of their own"]
)
def test_what_no_recipe_says_is_run_by_sentence_transformers(case):
    pytest.importorskip("sentence_transformers")
    folder, theirs = sentence_folder(transformer(), *left_to_sentence_transformers()[case])
    ours = load_dense(folder)
    assert isinstance(ours, TorchDenseEncoder)
    both(ours, theirs.encode(TEXTS, normalize_embeddings=True))
    with pytest.raises(EncoderError, match="which only sentence-transformers runs"):
        opened(folder)


def test_a_pooling_without_the_prompt_is_left_to_sentence_transformers():
    prompts = {"query": "ask: ", "document": ""}
    folder, theirs = sentence_folder(transformer(), pooling("mean", include_prompt=False), prompts=prompts)
    close(load_dense(folder).encode_queries(TEXTS[2:6]), theirs.encode_query(TEXTS[2:6], normalize_embeddings=True))


def test_a_router_of_dense_modules_is_left_to_sentence_transformers():
    """Here a query is a mean of rows, a document goes through a transformer: no recipe has both."""
    sentence = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer.modules import Router, StaticEmbedding

    trunk = transformer()
    static = StaticEmbedding(trunk.tokenizer, embedding_weights=tiny.numbers(180, 32).numpy())
    folder, _ = sentence_folder(Router.for_query_document([static], [trunk, pooling("mean")]))
    theirs = sentence.SentenceTransformer(str(folder), device="cpu")
    ours = load_dense(folder)
    close(ours.encode_queries(TEXTS[2:6]), theirs.encode_query(TEXTS[2:6], normalize_embeddings=True))
    close(ours.encode_documents(TEXTS), theirs.encode_document(TEXTS, normalize_embeddings=True))


# Static tables


def backend(kind=tiny.WORDPIECE):
    from tokenizers import Tokenizer

    folder = tiny.fresh("tokenizer")
    tiny.write_tokenizer(folder, kind)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("small", [False, True], ids=["one row a token", "rows shared, tokens weighted"])
def test_model2vec(normalize, small):
    model2vec = pytest.importorskip("model2vec")
    tokenizer = backend()
    size = tokenizer.get_vocab_size()
    more = {}
    if small:
        more["token_mapping"] = np.arange(size) % 40
        more["weights"] = tiny.numbers(size).abs().numpy()
    vectors = tiny.numbers(40 if small else size, 16).numpy()
    theirs = model2vec.StaticModel(vectors, tokenizer, normalize=normalize, **more)
    folder = tiny.fresh("model2vec")
    theirs.save_pretrained(folder)
    both(load_dense(folder), theirs.encode(TEXTS))
    both(load_dense(f"{folder}:max_length=9"), theirs.encode(TEXTS, max_length=9))


def test_model2vec_reads_as_much_as_it_says():
    """Texts are cut at 512 tokens, or what a config says, and, before, at as many characters as those usually have."""
    model2vec = pytest.importorskip("model2vec")
    tokenizer, long = backend(tiny.UNIGRAM), [LONG * 9]
    vectors = tiny.numbers(tokenizer.get_vocab_size(), 16).numpy()
    found = []
    for length in (512, 20, None):
        theirs = model2vec.StaticModel(vectors, tokenizer, max_length=length)
        folder = tiny.fresh("model2vec")
        theirs.save_pretrained(folder)
        found.append(load_dense(folder).encode_documents([*long, *TEXTS]))
        close(found[-1], theirs.encode([*long, *TEXTS]))
        assert load_dense(folder).identity.max_length == (length or 0)
    assert np.abs(found[0] - found[2]).max() > 1e-3


def test_static_embedding():
    pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding

    tokenizer = backend(tiny.BPE)
    table = StaticEmbedding(tokenizer, embedding_weights=tiny.numbers(tokenizer.get_vocab_size(), 16).numpy())
    for modules in ([table], [table, Normalize()]):
        folder, theirs = sentence_folder(*modules, similarity_fn_name="dot")
        both(load_dense(folder), theirs.encode(TEXTS))
    prompts = {"query": "ask ", "document": "tell "}
    folder, theirs = sentence_folder(table, prompts=prompts, similarity_fn_name="dot")
    close(load_dense(folder).encode_queries(TEXTS), theirs.encode_query(TEXTS))
    close(load_dense(folder).encode_documents(TEXTS), theirs.encode_document(TEXTS))
    cut = theirs.encode_document(TEXTS, truncate_dim=6)
    close(load_dense(f"{folder}:dimensions=6").encode_documents(TEXTS), cut)


# LightRetriever


@pytest.mark.parametrize("around", [tiny.BOTH_ENDS, tiny.BEGIN])
def test_lightretriever_looks_queries_up(around, cache, monkeypatch):
    """A query is the mean of its tokens' vectors, each that of "<s> prompt token </s>" (arXiv 2505.12260)."""
    from transformers import AutoTokenizer

    folder = tiny.checkpoint("llama", BASE, around=around)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    frame = tokenizer("find: ", add_special_tokens=True)["input_ids"]
    end = len(frame) - frame.count(2)
    close_texts = [text for text in TEXTS if "[" not in text]
    encoder = opened(folder, "lightretriever", query_prompt="find: ")
    last = np.stack([each[-1].numpy() for each in states(folder, close_texts)])
    close(encoder.encode_documents(close_texts), unit(last))
    table = {}
    wanted = []
    for text in close_texts:
        tokens = tokenizer(text, add_special_tokens=False, truncation=True, max_length=LENGTH)["input_ids"]
        for token in set(tokens) - set(table):
            (found,) = tiny.states_of(folder, [[*frame[:end], token, *frame[end:]]])
            table[token] = unit(found[-1:].numpy())[0]
        wanted.append(np.mean([table[token] for token in tokens], axis=0) if tokens else np.zeros(32))
    close(encoder.encode_queries(close_texts), unit(np.stack(wanted)))
    (kept,) = (cache / "lookups").iterdir()
    assert np.load(kept, mmap_mode="r").shape == (tiny.VOCABULARY, 32)
    monkeypatch.setattr(lookup, "query_table", lambda encoder: pytest.fail("the table was kept"))
    again = opened(folder, "lightretriever", query_prompt="find: ", token_budget=100)
    np.testing.assert_array_equal(again.encode_queries(close_texts), encoder.encode_queries(close_texts))


def test_queries_of_any_dense_family_can_be_looked_up():
    folder = tiny.checkpoint("bert", BASE)
    encoder = opened(folder, queries="lookup")
    np.testing.assert_array_equal(encoder.encode_queries([""]), np.zeros((1, 32), np.float32))
    close(encoder.encode_documents(TEXTS), means(folder))
    assert "lookup" not in encoder.identity.activation  # documents are the same, and an index is of documents
