"""Trunk, branch and head against transformers and against dense arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

from plait.train.errors import TrainError  # noqa: E402
from plait.train.heads import ACTIVATIONS, Sparse  # noqa: E402
from plait.train.model import Shape, SparseHead, Trunk, _sum_of, after_attention, through  # noqa: E402
from plait.train.states import padded  # noqa: E402

from . import tiny  # noqa: E402

SPECIALS = [0, 1, 2, 3, 4]
TEXTS = [[2, 9, 11, 9, 3], [2, 3], [2, 30, 31, 12, 8, 20, 3], [1], [7]]
LENGTHS = [len(ids) for ids in TEXTS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.base(tmp_path_factory.mktemp("model") / "base")


def a_head(trunk, *, specials=SPECIALS, terms=None, **shape):
    """Returns a head none of whose parts begins at a special value."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        head = SparseHead(trunk, Shape(**{"branch": 0, "rank": 6, **shape}), specials, terms)
        for name, tensor in head.named_parameters():
            if not name.startswith("layers."):
                torch.nn.init.normal_(tensor, std=0.5)
    return head


def inputs(trunk, seed=0):
    states = torch.randn(sum(LENGTHS), trunk.width, generator=torch.Generator().manual_seed(seed))
    return states.requires_grad_(), torch.tensor([one for ids in TEXTS for one in ids])


def textbook(head, states, ids, words):
    """Returns float32 (documents, vocabulary): a head's vectors by loops over documents and words."""
    rows = []
    at = 0
    for text in TEXTS:
        x, own = states[at : at + len(text)], ids[at : at + len(text)]
        z = head.transform(x)
        z = head.norm(torch.nn.functional.gelu(z) if head.shape.gelu else z)
        table = words if head.decoder is None else head.decoder
        if head.decoder is None and head.terms is not None:
            table = words[head.terms]
        logits = z @ table.T + head.bias
        if head.shape.pooling == "max":
            pooled = ACTIVATIONS[head.shape.activation](logits.max(dim=0).values.relu())
        else:
            pooled = logits.relu().log1p().sum(dim=0)
        row = torch.zeros(len(words))
        row = pooled if head.terms is None else row.index_put((head.terms,), pooled)
        if head.literal is not None:
            weights = (head.literal(x).squeeze(1) + head.literal_bias[own]).relu()
            for word in set(text):
                row = row + torch.nn.functional.one_hot(torch.tensor(word), len(words)) * weights[own == word].max()
        keep = torch.ones(len(words))
        keep[head.specials] = 0
        rows.append(row * keep)
        at += len(text)
    return torch.stack(rows)


@pytest.mark.parametrize("terms", [None, [5, 7, 9, 12, 30, 40]])
@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"rank": None},
        {"literal": False},
        {"gelu": False, "activation": "log1p_log1p"},
        {"pooling": "sum"},
        {"rank": None, "literal": False, "pooling": "sum"},
    ],
    ids=str,
)
def test_vectors_and_gradients_are_the_textbooks(folder, shape, terms):
    trunk = Trunk(folder, 0)
    head = a_head(trunk, terms=None if terms is None else torch.tensor(terms), **shape)
    states, ids = inputs(trunk)
    found = head(states, ids, LENGTHS, trunk.words, precise=True)
    expected = textbook(head, states, ids, trunk.words)
    torch.testing.assert_close(found.dense(), expected, rtol=1e-4, atol=1e-5)
    assert bool((found.values > 0).all())
    keys = found.rows * found.shape[1] + found.columns
    assert bool((keys[1:] > keys[:-1]).all())
    leaves = [states, *head.parameters(), trunk.words]
    ours, theirs = (
        torch.autograd.grad((dense**2).sum(), leaves, allow_unused=True) for dense in (found.dense(), expected)
    )
    assert (ours[-1] is not None) == (head.decoder is None)  # a tied decoder teaches the word table
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine is None) == (other is None)
        if mine is not None:
            torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-3)


def test_special_tokens_are_no_terms_and_may_be_all_there_is(folder):
    trunk = Trunk(folder, 0)
    states, ids = inputs(trunk)
    dense = a_head(trunk)(states, ids, LENGTHS, trunk.words, precise=True).dense()
    assert not dense[:, SPECIALS].any()
    free = a_head(trunk, specials=[])(states, ids, LENGTHS, trunk.words, precise=True).dense()
    assert bool(free[:, SPECIALS].any())
    torch.testing.assert_close(free[:, 5:], dense[:, 5:])
    head = a_head(trunk)
    torch.nn.init.constant_(head.bias, -1000.0)
    assert not head(states, ids, LENGTHS, trunk.words, precise=True).dense()[[1, 3]].any()


def test_a_state_that_is_no_number_reaches_the_loss(folder):
    trunk = Trunk(folder, 0)
    states, ids = inputs(trunk)
    with torch.no_grad():
        states[0] = torch.nan
    assert bool(a_head(trunk)(states, ids, LENGTHS, trunk.words, precise=True).values.sum().isnan())


entries = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), unique=True)


@given(entries, entries)
def test_a_sum_of_sparse_matrices_is_that_of_dense_ones_with_gradient(one, other):
    def sparse(places, first):
        places = torch.tensor(sorted(places), dtype=torch.int64).view(-1, 2)
        values = torch.arange(first, first + len(places), dtype=torch.float32).requires_grad_()
        return Sparse(places[:, 0], places[:, 1], values, (4, 10))

    a, b = sparse(one, 1), sparse(other, 100)
    total = _sum_of(a, b)
    assert np.array_equal(total.dense().detach(), (a.dense() + b.dense()).detach())
    assert len(total.values) == len({*one, *other})
    weights = torch.arange(40.0).view(4, 10)
    gradients = torch.autograd.grad((total.dense() * weights).sum(), [a.values, b.values], allow_unused=True)
    for part, gradient in zip((a, b), gradients, strict=True):
        assert gradient.tolist() == weights[part.rows, part.columns].tolist()


@pytest.mark.parametrize("branch", [0, 1, 2])
def test_the_cut_trunk_and_a_new_branch_are_what_transformers_computes(folder, branch):
    from transformers import AutoModel

    trunk = Trunk(folder, branch).eval()
    head = SparseHead(trunk, Shape(branch=branch), SPECIALS).eval()
    ids, mask = padded([np.array(text) for text in TEXTS], torch.device("cpu"))
    with torch.no_grad():
        whole = AutoModel.from_pretrained(folder).eval()(input_ids=ids, attention_mask=mask).last_hidden_state
        below = trunk.below(ids, mask)
        torch.testing.assert_close(trunk.above(below, mask)[mask], whole[mask], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(head.states(below, mask)[mask], whole[mask], rtol=1e-4, atol=1e-4)
    assert len(head.layers) == branch
    assert trunk.words.dtype == torch.float32


def test_padding_changes_nothing(folder):
    trunk = Trunk(folder, 0).eval()
    with torch.no_grad():
        ids, mask = padded([np.array(text) for text in TEXTS], torch.device("cpu"))
        together = trunk.below(ids, mask)
        for row, text in enumerate(TEXTS):
            alone = trunk.below(*padded([np.array(text)], torch.device("cpu")))
            torch.testing.assert_close(together[row, : len(text)], alone[0], rtol=1e-4, atol=1e-4)


def test_a_branch_learns_though_its_trunk_is_frozen_already(folder):
    trunk = Trunk(folder, 1).requires_grad_(False)
    head = SparseHead(trunk, Shape(branch=1), SPECIALS)
    assert all(tensor.requires_grad for tensor in head.layers.parameters())
    assert not any(tensor.requires_grad for tensor in trunk.parameters())


def test_a_head_keeps_its_terms_and_not_the_special_ids(folder):
    head = a_head(Trunk(folder, 0), terms=torch.tensor([5, 7]))
    names = "transform.weight transform.bias norm.weight norm.bias terms decoder bias literal.weight literal_bias"
    assert set(head.state_dict()) == set(names.split())


def test_what_cannot_be_opened_is_said(folder, tmp_path):
    from transformers import GPT2Config, GPT2Model

    with pytest.raises(TrainError, match=r"^branch is 3, but .*base has 2 layers$"):
        Trunk(folder, 3)
    with pytest.raises(TrainError, match=r"^transformers cannot open .*none: OSError: "):
        Trunk(tmp_path / "none", 0)
    GPT2Model(GPT2Config(vocab_size=9, n_positions=8, n_embd=8, n_layer=1, n_head=2)).save_pretrained(tmp_path / "gpt")
    with pytest.raises(TrainError, match=r"^GPT2Model is not of the BERT family \(BERT, MiniLM, DistilBERT\)$"):
        Trunk(tmp_path / "gpt", 0)


def distilbert(folder):
    """Returns a small DistilBERT, which it saves."""
    from transformers import DistilBertConfig, DistilBertModel

    config = DistilBertConfig(vocab_size=40, dim=16, n_layers=2, n_heads=2, hidden_dim=24, max_position_embeddings=20)
    model = DistilBertModel(config).eval()
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_what_changes_after_attention_is_fed_forward(family, folder, tmp_path):
    """The network after the attention treats each row alone, so the first rows alone give what they give among all."""
    if family == "distilbert":
        distilbert(tmp_path / "distil")
    trunk = Trunk(folder if family == "bert" else tmp_path / "distil", 1).eval()
    ids, mask = padded([np.array(text) for text in TEXTS], torch.device("cpu"))
    layer = trunk.layers[-1]
    with torch.no_grad():
        states = trunk.below(ids, mask)
        whole = through([layer], states, mask)
        with after_attention(layer, lambda rows: rows[:, :2]):
            torch.testing.assert_close(through([layer], states, mask), whole[:, :2])
        torch.testing.assert_close(through([layer], states, mask), whole)  # and nothing is left of it


def test_distilbert_is_of_the_family(tmp_path):
    model = distilbert(tmp_path / "distil")
    trunk = Trunk(tmp_path / "distil", 1).eval()
    ids, mask = padded([np.array(text) for text in TEXTS], torch.device("cpu"))
    with torch.no_grad():
        whole = model(input_ids=ids, attention_mask=mask).last_hidden_state
        torch.testing.assert_close(trunk.above(trunk.below(ids, mask), mask)[mask], whole[mask], rtol=1e-4, atol=1e-4)
