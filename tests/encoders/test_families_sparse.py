"""Sparse families against the textbook: one text at a time through transformers, formulas as the papers have them."""

from __future__ import annotations

import json
from collections import defaultdict

import numpy as np
import pytest
from plait.encoders import EncoderError, load_learned
from plait.encoders.torch_models import TorchSparseEncoder

from . import tiny
from .tiny import CAUSAL, LENGTH, MASKED, TEXTS, close

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAIT_CACHE", str(tmp_path / "cache"))


def opened(folder, family, **options):
    more = "".join(f":{name}={value}" for name, value in options.items())
    return load_learned(f"{folder}:family={family}:runtime=torch{more}", max_length=LENGTH)


def log1p(logits):
    return torch.log(1 + torch.relu(logits))


def pooled(folder, how, *, head=MASKED, drop=()):
    """Returns what `how` makes of each text's logits, without the columns of some tokens."""
    found = [how(logits) for logits in tiny.logits_of(folder, tiny.token_ids(folder, TEXTS), head)]
    rows = np.stack([row.numpy() for row in found])
    rows[:, list(drop)] = 0
    return rows


def splade(logits):
    return log1p(logits).amax(0)


# Expansion by a masked-LM head

ENCODERS = ["bert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta", "modernbert"]


@pytest.mark.parametrize("architecture", ENCODERS)
def test_splade(architecture):
    folder = tiny.checkpoint(architecture)
    encoder = opened(folder, "splade")
    close(encoder.encode_documents(TEXTS), pooled(folder, splade))
    close(encoder.encode_queries(TEXTS), pooled(folder, splade))


def test_splade_v1_sums():
    folder = tiny.checkpoint("bert")
    close(opened(folder, "splade-v1").encode_documents(TEXTS), pooled(folder, lambda logits: log1p(logits).sum(0)))


def test_splade_equals_pyserinis_formula():
    """Pyserini pads, masks by a product and rounds weight * 256 / 5."""
    from transformers import AutoTokenizer

    folder = tiny.checkpoint("bert")
    inputs = AutoTokenizer.from_pretrained(folder)(
        TEXTS, max_length=LENGTH, truncation=True, padding="longest", return_tensors="pt"
    )
    with torch.no_grad():
        logits = tiny.model_of(folder, MASKED)(**inputs).logits
    weights, _ = torch.max(log1p(logits) * inputs["attention_mask"].unsqueeze(-1), dim=1)
    ours = opened(folder, "splade").encode_documents(TEXTS).toarray()
    close(ours, weights)
    off = np.rint(ours / 5 * 256) != np.rint(weights.numpy() / 5 * 256)
    assert off.mean() < 1e-3  # only where a weight lies between two integers


def test_splade_doc():
    folder = tiny.checkpoint("bert")
    encoder = opened(folder, "splade-doc")
    close(encoder.encode_documents(TEXTS), pooled(folder, splade))
    close(encoder.encode_queries(TEXTS), bags(folder, lambda token: 1.0))


def test_splade_lexical_does_not_expand_queries():
    folder = tiny.checkpoint("distilbert")
    wanted = pooled(folder, splade, drop=tiny.special_ids(folder))
    encoder = opened(folder, "splade-lexical")
    close(encoder.encode_documents(TEXTS), wanted)
    close(encoder.encode_queries(TEXTS), wanted * bags(folder, lambda token: 1.0))


def bags(folder, weight):
    """Returns a weight for each distinct token that is no special one."""
    rows = np.zeros((len(TEXTS), tiny.model_of(folder, MASKED).config.vocab_size), np.float32)
    for row, ids in zip(rows, tiny.token_ids(folder, TEXTS), strict=True):
        for number in set(ids) - set(tiny.special_ids(folder)):
            row[number] = weight(number)
    return rows


def test_opensearch():
    folder = tiny.checkpoint("bert")
    wanted = pooled(folder, splade, drop=tiny.special_ids(folder))
    encoder = opened(folder, "opensearch")
    close(encoder.encode_documents(TEXTS), wanted)
    close(encoder.encode_queries(TEXTS), wanted)


def double_log(logits):
    return torch.log(1 + torch.log(1 + torch.relu(logits.amax(0))))


@pytest.fixture(scope="module")
def with_idf():
    """A checkpoint with idf.json, which lacks some tokens and names one that is not in the vocabulary."""
    from transformers import AutoTokenizer

    plain = tiny.checkpoint("distilbert")
    vocabulary = AutoTokenizer.from_pretrained(plain).get_vocab()
    idf = {token: 1 + number / 100 for token, number in vocabulary.items() if number % 5}
    return tiny.copied(plain, idf={**idf, "unheard-of": 9.0}), {vocabulary[token]: idf[token] for token in idf}


@pytest.mark.parametrize(
    ("family", "how"), [("opensearch-doc", splade), ("opensearch-doc-v3", double_log), (None, splade)]
)
def test_opensearch_doc(with_idf, family, how):
    folder, idf = with_idf
    encoder = load_learned(f"{folder}:runtime=torch" + (f":family={family}" if family else ""), max_length=LENGTH)
    close(encoder.encode_documents(TEXTS), pooled(folder, how, drop=tiny.special_ids(folder)))
    close(encoder.encode_queries(TEXTS), bags(folder, lambda token: idf.get(token, 0.0)))
    assert encoder.identity.query_weights == "encoder"


def test_without_idf_the_index_weighs_queries():
    folder = tiny.checkpoint("bert")
    encoder = opened(folder, "opensearch-doc")
    close(encoder.encode_queries(TEXTS), bags(folder, lambda token: 1.0))
    assert encoder.identity.query_weights == "idf"


def test_opensearch_multilingual_prunes():
    """Max-ratio pruning: what is no more than a tenth of a document's largest weight is left out."""
    folder = tiny.checkpoint("bert")
    wanted = pooled(folder, splade, drop=tiny.special_ids(folder))
    wanted[wanted <= 0.1 * wanted.max(1, keepdims=True)] = 0
    found = opened(folder, "opensearch-multilingual").encode_documents(TEXTS)
    close(found, wanted)
    assert found.nnz < opened(folder, "opensearch-doc").encode_documents(TEXTS).nnz


def test_top():
    folder = tiny.checkpoint("bert")
    wanted = pooled(folder, splade)
    wanted[wanted < np.sort(wanted)[:, [-7]]] = 0
    found = opened(folder, "splade", top=7).encode_documents(TEXTS)
    close(found, wanted)
    assert set(found.getnnz(1)) == {7}


# sentence-transformers


@pytest.mark.parametrize("pooling", ["max", "sum"])
@pytest.mark.parametrize("activation", ["relu", "log1p_relu"])
def test_a_sparse_encoder_folder(pooling, activation):
    sentence = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sparse_encoder.modules import SpladePooling, Transformer

    trunk = Transformer(str(tiny.checkpoint("bert")), transformer_task="fill-mask", max_seq_length=LENGTH)
    theirs = sentence.SparseEncoder(modules=[trunk, SpladePooling(pooling, activation)], device="cpu")
    folder = tiny.fresh("sparse-encoder")
    theirs.save(str(folder))
    wanted = theirs.encode(TEXTS, convert_to_sparse_tensor=False).numpy()
    ours = load_learned(f"{folder}:runtime=torch")
    close(ours.encode_documents(TEXTS), wanted)
    close(ours.encode_queries(TEXTS), wanted)
    assert ours.identity.max_length == LENGTH


@pytest.fixture(scope="module")
def router():
    """An asymmetric encoder by sentence-transformers: a table for queries, a transformer for documents."""
    sentence = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sparse_encoder.modules import Router, SparseStaticEmbedding, SpladePooling, Transformer

    trunk = Transformer(str(tiny.checkpoint("distilbert")), transformer_task="fill-mask", max_seq_length=LENGTH)
    size = trunk.tokenizer.vocab_size
    table = SparseStaticEmbedding(tokenizer=trunk.tokenizer, weight=tiny.numbers(size).abs() + 0.1, frozen=True)
    modules = Router.for_query_document([table], [trunk, SpladePooling("max", "log1p_relu")])
    theirs = sentence.SparseEncoder(modules=[modules], device="cpu", similarity_fn_name="dot")
    folder = tiny.fresh("router")
    theirs.save(str(folder))
    return folder, theirs


def test_a_router(router):
    folder, theirs = router
    ours = load_learned(f"{folder}:runtime=torch")
    wanted = theirs.encode_document(TEXTS, convert_to_sparse_tensor=False).numpy()
    wanted[:, theirs.tokenizer.all_special_ids] = 0
    close(ours.encode_documents(TEXTS), wanted)
    queries = theirs.encode_query(TEXTS, convert_to_sparse_tensor=False).numpy()
    queries[:, theirs.tokenizer.all_special_ids] = 0
    close(ours.encode_queries(TEXTS), queries)


def test_a_router_of_two_transformers_is_left_to_sentence_transformers():
    sentence = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sparse_encoder.modules import Router, SpladePooling, Transformer

    trunks = [Transformer(str(tiny.checkpoint(name)), transformer_task="fill-mask") for name in ("distilbert", "bert")]
    routes = [[trunk, SpladePooling("max")] for trunk in trunks]
    folder = tiny.fresh("router")
    sentence.SparseEncoder(modules=[Router.for_query_document(*routes)], device="cpu").save(str(folder))
    ours = load_learned(folder)
    assert isinstance(ours, TorchSparseEncoder)
    close(ours.encode_queries(TEXTS), pooled(tiny.checkpoint("distilbert"), splade))
    close(ours.encode_documents(TEXTS), pooled(tiny.checkpoint("bert"), splade))
    with pytest.raises(EncoderError, match="a transformer of their own for queries, which only sentence-transformers"):
        load_learned(f"{folder}:runtime=torch")


def test_an_autoencoder_is_left_to_sentence_transformers():
    """CSR (arXiv 2503.01776): its terms are no words."""
    sentence = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer.modules import Pooling
    from sentence_transformers.sparse_encoder.modules import SparseAutoEncoder, Transformer

    trunk = Transformer(str(tiny.checkpoint("bert", tiny.BASE)), max_seq_length=LENGTH)
    modules = [trunk, Pooling(32, pooling_mode="mean"), SparseAutoEncoder(32, 64, k=8)]
    theirs = sentence.SparseEncoder(modules=modules, device="cpu")
    folder = tiny.fresh("autoencoder")
    theirs.save(str(folder))
    ours = load_learned(folder)
    assert isinstance(ours, TorchSparseEncoder)
    close(ours.encode_documents(TEXTS), theirs.encode_document(TEXTS, convert_to_sparse_tensor=False).numpy())


def test_through_sentence_transformers_itself(router):
    folder, theirs = router
    ours = load_learned(f"{folder}:runtime=sentence-transformers")
    close(ours.encode_documents(TEXTS), theirs.encode_document(TEXTS, convert_to_sparse_tensor=False).numpy())


# A text's own tokens


def token_weights(folder, ids, name="tok_proj"):
    """Returns relu(w h + b) of each token of each text."""
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    layer = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
    return [torch.relu(torch.nn.functional.linear(states, *layer))[:, 0] for states in tiny.states_of(folder, ids)]


@pytest.mark.parametrize(("side", "adds"), [("documents", False), ("queries", True)])
def test_unicoil(side, adds):
    """As Pyserini has it: [CLS] is skipped and nothing else; a document takes the largest weight, a query the sum."""
    unicoil = tiny.unicoil()
    first, texts = 22, [text for text in TEXTS if "[CLS]" not in text]
    ids = tiny.token_ids(unicoil, texts)
    wanted = np.zeros((len(texts), 180), np.float32)
    for row, tokens, weights in zip(wanted, ids, token_weights(unicoil, ids), strict=True):
        for token, weight in zip(tokens, weights.tolist(), strict=True):
            row[token] = row[token] + weight if adds else max(row[token], weight)
        row[first] = 0
    assert {tokens[0] for tokens in ids} == {first}
    close(getattr(opened(unicoil, "unicoil"), f"encode_{side}")(texts), wanted)


def test_unicoil_is_known_by_its_config():
    unicoil = tiny.unicoil()
    folder = tiny.copied(unicoil)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["UniCoilEncoder"]}))
    ours = load_learned(f"{folder}:runtime=torch", max_length=LENGTH).encode_queries(TEXTS)
    close(ours, opened(unicoil, "unicoil").encode_queries(TEXTS).toarray())


def impacts(folder, text):
    """Returns word -> impact: that of the first token of the word where it stands first."""
    from safetensors.torch import load_file
    from transformers import AutoTokenizer

    tensors = load_file(folder / "model.safetensors")
    layers = [(tensors[f"impact_score_encoder.{i}.weight"], tensors[f"impact_score_encoder.{i}.bias"]) for i in (0, 2)]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer(text, truncation=True, max_length=LENGTH)
    (states,) = tiny.states_of(folder, [encoded["input_ids"]])
    for layer in layers:
        states = torch.relu(torch.nn.functional.linear(states, *layer))
    pieces = tokenizer.backend_tokenizer.normalizer.normalize_str(text)
    words = [word for word, _ in tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(pieces)]
    found: dict[str, float] = {}
    for word, place in zip(words, dict.fromkeys(w for w in encoded.word_ids() if w is not None), strict=False):
        token = encoded.word_ids().index(place)
        if any(letter.isalnum() for letter in word):
            found.setdefault(word, float(states[token, 0]))
    return found


# the tokenizer knows "[CLS]" in a text as a token, which is no word; words of it are compared without
WORDY = [text for text in TEXTS if "[" not in text]


def test_deepimpact():
    folder = tiny.deepimpact()
    encoder = opened(folder, "deepimpact")
    found = encoder.encode_documents(WORDY)
    for row, text in zip(found, WORDY, strict=True):
        names = encoder.term_names(text)
        ours = {names[column]: weight for column, weight in zip(row.indices.tolist(), row.data.tolist(), strict=True)}
        wanted = {word: weight for word, weight in impacts(folder, text).items() if weight > 0}
        assert ours == pytest.approx(wanted, abs=1e-4), text
    assert found.nnz > 40


def test_deepimpact_queries_are_their_words():
    encoder = opened(tiny.deepimpact(), "deepimpact")
    row = encoder.encode_queries(["Search the SEARCH engine, antidisestablishmentarianism!"])
    assert row.data.tolist() == [1.0] * 4
    names = encoder.term_names("Search the SEARCH engine, antidisestablishmentarianism!")
    assert [names[column] for column in row.indices.tolist()] == [
        "search", "engine", "the", "antidisestablishmentarianism"
    ]  # fmt: skip
    document = encoder.encode_documents(["antidisestablishmentarianism"])
    assert row.indices.tolist()[-1] >= 180  # no token of the vocabulary: hashed
    assert set(document.indices.tolist()) <= set(row.indices.tolist())


# Decoders


@pytest.mark.parametrize(
    ("architecture", "around"),
    [("llama", tiny.BEGIN), ("mistral", tiny.BOTH_ENDS), ("qwen2", tiny.NOTHING), ("gemma2", tiny.BEGIN)],
)
def test_mistral_splade_reads_twice(architecture, around):
    """Echo: the text stands twice, the second reading alone is pooled (arXiv 2408.11119)."""
    folder = tiny.checkpoint(architecture, CAUSAL, around=around)
    begins = around.startswith("<s>")
    wanted = []
    for ids in tiny.token_ids(folder, TEXTS):
        if not ids[begins:]:
            wanted.append(torch.zeros(tiny.VOCABULARY))
            continue
        (logits,) = tiny.logits_of(folder, [[*ids, *ids[begins:]]], CAUSAL)
        wanted.append(splade(logits[len(ids) :]))
    wanted = np.stack([row.numpy() for row in wanted])
    wanted[:, tiny.special_ids(folder)] = 0
    encoder = opened(folder, "mistral-splade")
    close(encoder.encode_documents(TEXTS), wanted)
    close(encoder.encode_queries(TEXTS), wanted)


def test_a_text_that_is_read_twice_needs_two_positions_a_token():
    folder = tiny.checkpoint("gpt2", CAUSAL, around=tiny.BEGIN)  # 128 positions
    assert opened(folder, "mistral-splade").encode_documents([TEXTS[-2]]).nnz > 0
    with pytest.raises(EncoderError, match="max_length is 65, expected a whole number from 3 to 64"):
        load_learned(f"{folder}:family=mistral-splade:runtime=torch", max_length=65)


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "gemma2"])
def test_prosper_adds_a_literal_residual(architecture):
    """A weight of each own token beside the expansion, the 256 largest terms ("LLMs as Sparse Retrievers")."""
    plain = tiny.checkpoint(architecture, CAUSAL)
    weight, bias = tiny.numbers(1, 32), tiny.numbers(1)
    folder = tiny.add_tensors(tiny.copied(plain), literal__weight=weight, literal__bias=bias)
    ids = tiny.token_ids(plain, TEXTS)
    rows = np.zeros((len(ids), tiny.VOCABULARY), np.float32)
    for row, tokens in zip(rows, ids, strict=True):
        out = tiny.outputs_of(plain, tokens, CAUSAL)
        own: dict[int, float] = defaultdict(float)
        weights = torch.relu(torch.nn.functional.linear(out.hidden_states[-1][0], weight, bias))[:, 0].tolist()
        for token, number in zip(tokens, weights, strict=True):
            own[token] = max(own[token], number)
        row[:] = splade(out.logits[0]).numpy()
        for token, number in own.items():
            row[token] += number
        row[tiny.special_ids(plain)] = 0
        row[row < np.sort(row)[-256]] = 0
    close(opened(folder, "prosper").encode_documents(TEXTS), rows)
