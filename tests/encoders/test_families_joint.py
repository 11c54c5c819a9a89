"""Families that make both kinds of vectors in one pass; memory, sharing and indexes, for every family."""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.encoders import EncoderError, load_dense, load_joint, load_learned
from plait.encoders.stopwords import STOP_WORDS
from plait.retriever import MismatchError, Retriever

from . import tiny
from .tiny import BASE, CAUSAL, LENGTH, MASKED, TEXTS, close, unit

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
live = pytest.importorskip("plait.encoders.families.live")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


BIAS = torch.tensor([2.5])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def bge_m3():
    folder = tiny.copied(tiny.checkpoint("xlm-roberta", BASE))
    torch.save({"weight": tiny.numbers(1, 32), "bias": BIAS}, folder / "sparse_linear.pt")
    return folder


@pytest.fixture(scope="module")
def dupmae():
    folder = tiny.copied(tiny.checkpoint("bert"))
    return tiny.add_tensors(folder, cls_projection__weight=tiny.numbers(16, 32), cls_projection__bias=tiny.numbers(16))


# promptreps: Llama's prompt is of 400 tokens of a tokenizer so small; the length is what matters, not the words
PROMPTS = {"query_prompt": 'Query: "', "document_prompt": 'Passage: "'}


@pytest.fixture(scope="module")
def promptreps():
    return tiny.checkpoint("llama", CAUSAL, max_position_embeddings=2048)


def test_bge_m3(bge_m3):
    """One linear layer weighs tokens; a token that repeats has its largest weight; [CLS] is the dense vector."""
    ids = tiny.token_ids(bge_m3, TEXTS)
    states = tiny.states_of(bge_m3, ids)
    wanted = np.zeros((len(TEXTS), tiny.VOCABULARY), np.float32)
    for row, tokens, each in zip(wanted, ids, states, strict=True):
        weights = torch.relu(torch.nn.functional.linear(each, tiny.numbers(1, 32), BIAS))[:, 0].tolist()
        for token, weight in zip(tokens, weights, strict=True):
            row[token] = max(row[token], weight)
        row[[0, 1, 2, 3, 4]] = 0  # <s>, <pad>, </s>, <unk>, <mask>
    joint = load_joint(f"{bge_m3}:runtime=torch", max_length=LENGTH)
    sparse, dense = joint.encode_documents(TEXTS)
    close(sparse, wanted)
    close(dense, unit(np.stack([each[0].numpy() for each in states])))
    close(joint.learned.encode_queries(TEXTS), wanted)
    assert sparse.nnz > 50


def test_bge_m3_is_known_by_its_file(bge_m3):
    encoder = load_learned(f"{bge_m3}:runtime=torch")
    assert encoder.joint.recipe.family == "bge-m3"
    assert encoder.identity.activation == "tokens+max+relu"


def test_dupmae(dupmae):
    """[CLS], projected, beside the largest logit of each word over the tokens, the 256 largest (arXiv 2305.02564)."""
    ids = tiny.token_ids(dupmae, TEXTS)
    outputs = [tiny.outputs_of(dupmae, one, MASKED) for one in ids]
    first = torch.stack([each.hidden_states[-1][0, 0] for each in outputs])
    projected = torch.nn.functional.linear(first, tiny.numbers(16, 32), tiny.numbers(16))
    words = np.stack([torch.relu(each.logits[0].amax(0)).numpy() for each in outputs])
    sparse, dense = load_joint(f"{dupmae}:family=dupmae:runtime=torch", max_length=LENGTH).encode_documents(TEXTS)
    close(dense, projected)
    close(sparse, words)  # all of the tiny vocabulary's 180
    few = load_learned(f"{dupmae}:family=dupmae:runtime=torch:top=9", max_length=LENGTH).encode_documents(TEXTS)
    words[words < np.sort(words)[:, [-9]]] = 0
    close(few, words)


@pytest.mark.parametrize("architecture", ["bert", "modernbert", "electra", "distilbert", "mpnet", "roberta"])
def test_the_dense_half_is_the_last_layer(architecture):
    """hidden_states[-1] is what a model without its head returns, its last norm included."""
    folder = tiny.checkpoint(architecture)
    joint = load_joint(f"{folder}:family=dupmae:runtime=torch", max_length=LENGTH)
    with torch.no_grad():
        trunk = tiny.model_of(folder, MASKED).base_model
        ids = tiny.token_ids(folder, TEXTS)
        wanted = [trunk(input_ids=torch.tensor([one])).last_hidden_state[0, 0].numpy() for one in ids]
    close(joint.encode_documents(TEXTS)[1], wanted)


SENTENCES = [
    "Search engines rank documents, and the best ones are quick.",
    "A hybrid search",
    "the of and",
    "!!! ???",
    "naïve café 日本語",
]


def promptrep(folder, text, before, after):
    """Returns what the paper's code makes of a text: values of its own tokens, and the state at its last token."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    out = tiny.outputs_of(folder, tokenizer(before + text + after)["input_ids"], CAUSAL)
    values = torch.log(1 + torch.relu(out.logits[0, -1]))
    cleaned = "".join(letter if letter.isalnum() else " " for letter in text.lower())
    words = [word for word in cleaned.split() if word not in [*STOP_WORDS["english"], *string.punctuation]]
    own: set[int] = set()
    for word in words:
        own.update(tokenizer.encode(word, add_special_tokens=False))
    kept = values.topk(10).indices if not own else torch.tensor(sorted(own))
    kept = kept[values[kept].topk(min(len(kept), 128)).indices]
    row = torch.zeros(len(values))
    row[kept] = values[kept]
    row[tokenizer.all_special_ids] = 0
    return row.numpy(), out.hidden_states[-1][0, -1].numpy()


@pytest.mark.parametrize("side", ["document", "query"])
def test_promptreps(promptreps, side):
    """The family's own prompt, whole: the last state, and the next token's logits of the text's own words."""
    joint = load_joint(f"{promptreps}:family=promptreps:runtime=torch", max_length=2048)
    before, after = joint.recipe.prompts.around(side)
    assert before.startswith("<|start_header_id|>system<|end_header_id|>\n\nYou are an AI assistant")
    assert after.endswith('The word is: "')
    rows, states = zip(*(promptrep(promptreps, text, before, after) for text in SENTENCES), strict=True)
    close(getattr(joint.learned, f"encode_{'queries' if side == 'query' else 'documents'}")(SENTENCES), rows)
    close(joint.encode_dense(SENTENCES, side), unit(np.stack(states)))


def test_promptreps_of_a_decoder_with_capped_logits():
    folder = tiny.checkpoint("gemma2", CAUSAL, max_position_embeddings=2048)
    joint = load_joint(f"{folder}:family=promptreps:runtime=torch", max_length=2048)
    rows, states = zip(
        *(promptrep(folder, text, *joint.recipe.prompts.around("document")) for text in SENTENCES), strict=True
    )
    sparse, dense = joint.encode_documents(SENTENCES)
    close(sparse, rows)
    close(dense, unit(np.stack(states)))


def test_a_long_text_is_cut_before_the_end_of_its_prompt(promptreps):
    """The end of the prompt is what the model answers to: the text gives way, the end stays."""
    joint = load_joint(f"{promptreps}:family=promptreps:runtime=torch", max_length=900)
    before, after = joint.recipe.prompts.around("document")
    text = " ".join(f"sparse{number}" for number in range(400))
    (ids,) = joint.layout.ids([text], "document")
    tokenizer = tiny.backend_of(promptreps)
    end = tokenizer.encode(after, add_special_tokens=False).ids
    assert ids.tolist()[-len(end) :] == end
    assert 890 <= len(ids) <= 900
    shorter = tokenizer.decode(ids.tolist()).removeprefix(before).removesuffix(after)
    assert text.startswith(shorter.strip())
    rows, _ = promptrep(promptreps, shorter, before, after)
    found = joint.learned.encode_documents([text]).toarray()[0]
    kept = found > 0
    np.testing.assert_allclose(found[kept], rows[kept], atol=1e-4)
    with pytest.raises(EncoderError, match=r"the prompt has \d+ tokens, the model reads 50: raise max_length"):
        load_joint(f"{promptreps}:family=promptreps:runtime=torch", max_length=50).encode_documents(["a"])


# Both at once


def spec_of(family, request):
    return f"{request.getfixturevalue(family.replace('-', '_'))}:family={family}:runtime=torch"


FAMILIES = ["bge-m3", "dupmae", "promptreps"]


@pytest.mark.parametrize("family", FAMILIES)
def test_both_at_once_are_the_two_apart(family, request):
    spec = spec_of(family, request)
    length = 900 if family == "promptreps" else LENGTH
    joint, dense, learned = (load(spec, max_length=length) for load in (load_joint, load_dense, load_learned))
    assert dense.joint is learned.joint is joint
    together = joint.encode_documents(SENTENCES)
    np.testing.assert_allclose(together[0].toarray(), learned.encode_documents(SENTENCES).toarray(), atol=1e-6)
    np.testing.assert_allclose(together[1], dense.encode_documents(SENTENCES), atol=1e-6)
    for budget in (1, 3000):
        parts = load_joint(spec, max_length=length, token_budget=budget).encode_documents(SENTENCES[::-1])
        np.testing.assert_allclose(parts[0].toarray()[::-1], together[0].toarray(), atol=1e-5)
        np.testing.assert_allclose(parts[1][::-1], together[1], atol=1e-5)
    assert [part.shape[0] for part in joint.encode_documents([])] == [0, 0]


def test_an_option_of_one_strand_makes_a_model_of_its_own(bge_m3):
    few = load_learned(f"{bge_m3}:runtime=torch:top=2")
    assert few.joint is not load_dense(f"{bge_m3}:runtime=torch").joint
    assert max(few.encode_documents(TEXTS).getnnz(1)) == 2


def test_a_retriever_encodes_once(bge_m3, tmp_path, monkeypatch):
    monkeypatch.chdir(bge_m3.parent)
    spec = f"{bge_m3.name}:runtime=torch:max_length=32"
    passes = []
    real = live.TorchModel._run
    monkeypatch.setattr(
        live.TorchModel, "_run", lambda self, ids, wanted: passes.append(wanted) or real(self, ids, wanted)
    )
    documents = [{"_id": str(number), "text": text} for number, text in enumerate(TEXTS) if text.strip()]
    with Retriever.create(tmp_path / "index", dense=spec, learned=spec) as retriever:
        retriever.add(documents)
        retriever.commit()
        assert set(passes) == {("dense", "own")}
        wanted = [hit.id for hit in retriever.search("hybrid search engine", k=5)]
    monkeypatch.chdir(tmp_path)
    with Retriever.open(tmp_path / "index") as again:  # by the name that the index has, from another folder
        assert [hit.id for hit in again.search("hybrid search engine", k=5)] == wanted
        assert wanted[0] == "3"
    with pytest.raises(MismatchError, match="max_length: 32 then, 16 now"):
        Retriever.open(tmp_path / "index", dense=f"{bge_m3}:runtime=torch:max_length=16")


# Memory


@given(st.lists(st.integers(1, 60), max_size=40), st.integers(1, 200), st.sampled_from([0.5, 0.9, 1.0]))
def test_batches(lengths, budget, slack):
    """Each text once, the longest first; a batch keeps to the budget, padding included, and its texts are alike."""
    found = live.batches(lengths, budget, slack)
    assert sorted(position for batch in found for position in batch) == list(range(len(lengths)))
    sizes = [[lengths[position] for position in batch] for batch in found]
    assert [size for batch in sizes for size in batch] == sorted(lengths, reverse=True)
    for batch in sizes:
        assert len(batch) == 1 or (len(batch) * batch[0] <= budget and batch[-1] >= slack * batch[0])


class Full:
    """A model that has no memory for more than some tokens at once."""

    def __init__(self, monkeypatch, most, error=torch.OutOfMemoryError):
        self.sizes = []
        real = live.Heads.forward

        def forward(heads, ids, *rest):
            self.sizes.append(ids.numel())
            if ids.numel() > most:
                raise error("CUDA out of memory. Tried to allocate 2.00 GiB")
            return real(heads, ids, *rest)

        monkeypatch.setattr(live.Heads, "forward", forward)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
def test_what_does_not_fit_is_halved(bge_m3, monkeypatch, error):
    wanted = load_joint(f"{bge_m3}:runtime=torch", max_length=LENGTH, token_budget=1).encode_documents(TEXTS)
    joint = load_joint(f"{bge_m3}:runtime=torch", max_length=LENGTH, token_budget=5000)
    full = Full(monkeypatch, 130, error)
    found = joint.encode_documents(TEXTS)
    np.testing.assert_allclose(found[0].toarray(), wanted[0].toarray(), atol=1e-5)
    np.testing.assert_allclose(found[1], wanted[1], atol=1e-5)
    tried = len(full.sizes)
    joint.encode_documents(TEXTS)
    assert max(full.sizes[tried:]) <= 130  # it has learned what fits


def test_a_text_that_does_not_fit_is_an_error(bge_m3, monkeypatch):
    joint = load_joint(f"{bge_m3}:runtime=torch", max_length=LENGTH)
    Full(monkeypatch, 60)
    assert joint.encode_dense(["short"], "document").shape == (1, 32)
    with pytest.raises(
        EncoderError, match="a text of 64 tokens does not fit in the memory of cpu: give a lower max_length"
    ):
        joint.encode_documents(["short", TEXTS[-2]])


def test_other_errors_are_not_taken_for_it(bge_m3, monkeypatch):
    joint = load_joint(f"{bge_m3}:runtime=torch", max_length=LENGTH)

    def broken(*given):
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(live.Heads, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        joint.encode_documents(["a"])


def peak():
    """Returns the most memory that this process has had since `reset`, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def reset():
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("the peak of a process cannot be measured anew here")
    return peak()


def test_a_document_of_20_000_tokens_among_short_ones():
    """Memory does not grow with the square of its length, nor with its length times the vocabulary."""
    sizes = {"hidden_size": 16, "num_attention_heads": 1, "num_key_value_heads": 1, "num_hidden_layers": 1}
    folder = tiny.checkpoint("llama", CAUSAL, max_position_embeddings=32768, intermediate_size=32, **sizes)
    joint = load_joint(f"{folder}:family=promptreps:runtime=torch", max_length=32768)
    texts = ["a short text", " ".join(["sparse dense vector"] * 3400), *["more of it"] * 60]
    assert len(joint.layout.ids(texts[1:2], "document")[0]) > 20_000
    short = joint.encode_documents(texts[:1])
    before = reset()
    sparse, dense = joint.encode_documents(texts)
    assert peak() - before < 400  # attention alone would take 1,600 if it were written down, logits of the head 26
    np.testing.assert_allclose(dense[:1], short[1], atol=1e-5)
    assert sparse[1].nnz > 0


@pytest.mark.parametrize(("chunks", "load"), [("max", load_learned), ("mean", load_dense)])
def test_long_documents_in_pieces(bge_m3, chunks, load):
    """Each piece is read as a text of its own: no token is lost, none is cut."""
    long = " ".join(TEXTS[-2:] + TEXTS[3:6]) * 3
    whole, pieces = load(f"{bge_m3}:runtime=torch"), load(f"{bge_m3}:runtime=torch:chunks={chunks}:chunk_size=32")
    windows = pieces.windows(long)
    assert len(windows) > 10
    assert max(len(ids) for ids in whole.joint.layout.ids(windows, "document")) <= 32
    apart = whole.encode_documents(windows)
    wanted = apart.toarray().max(0) if chunks == "max" else unit(apart.mean(0)[None])[0]
    found = pieces.encode_documents(["a short one", long])
    close((found.toarray() if chunks == "max" else found)[1:], [wanted])
    short = whole.encode_documents(["a short one"])
    assert abs(found[0] - short).max() < 1e-5


def test_pieces_leave_room_for_the_prompt(promptreps):
    pieces = load_dense(f"{promptreps}:family=promptreps:runtime=torch:chunks=mean", max_length=900)
    long = " ".join(f"sparse{number}" for number in range(400))
    windows = pieces.windows(long)
    assert max(len(ids) for ids in pieces.encoder.joint.layout.ids(windows, "document")) <= 900
    assert windows[-1].endswith("sparse399")
    joined = " ".join(windows)
    assert all(f"sparse{number}" in joined for number in range(400))
