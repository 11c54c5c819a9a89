"""The query table: sums by hand, gradients beside those of a plain loop, and what an interruption does not change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.train.errors import TrainError
from plait.train.recipe import RECIPES

from . import tiny

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

WORDS, WIDTH, SPECIALS = 30, 8, (0, 1)
RECIPE = RECIPES["static-query"].changed(
    {"steps": 40, "queries": 16, "documents": 12, "seeds": 2, "rate": 0.02, "decay": 0.5}
)


@pytest.fixture(autouse=True)
def static():
    """The module; it needs torch at import."""
    pytest.importorskip("torch")
    from plait.train import static

    return static


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def made(queries=60, seed=0, used=20):
    """Queries over the first `used` pieces, special ones at both ends, and targets that a table can reach."""
    random = np.random.default_rng(seed)
    truth = random.normal(size=(WORDS, WIDTH))
    ids = [random.integers(2, used, random.integers(1, 6)) for _ in range(queries)]
    targets = unit(np.stack([truth[one].sum(axis=0) for one in ids]))
    return [np.concatenate([[0], one, [1]]).astype(np.int64) for one in ids], targets


def start_of(seed=5):
    return np.random.default_rng(seed).normal(size=(WORDS, WIDTH)).astype(np.float32)


def train(static, ids, targets, recipe=RECIPE, **options):
    return static.train_static(
        ids, targets, recipe=recipe, **{"vocabulary": WORDS, "specials": SPECIALS, "start": start_of(), **options}
    )


def distance(static, table, ids, targets):
    own = [one[~np.isin(one, SPECIALS)] for one in ids]
    return float((1 - (table.encode(own) * targets).sum(axis=1)).mean())


def test_a_query_is_the_sum_of_its_rows_repeats_counted(static):
    table = static.StaticTable(np.array([[0, 0], [3, 0], [0, 2]], np.float32), None)
    found = table.encode([np.array([1, 2, 2]), np.array([2]), np.array([], np.int64)])
    assert found.tolist() == [[np.float32(0.6), np.float32(0.8)], [0, 1], [0, 0]]
    turned = table._replace(projection=np.array([[0, 1], [-1, 0]], np.float32))
    assert turned.encode([np.array([1, 2, 2])]).tolist() == [[np.float32(-0.8), np.float32(0.6)]]
    assert table.encode([]).shape == (0, 2)


@given(st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=8), st.data())
def test_bags_are_the_queries_without_special_tokens(queries, data):
    from plait.train.static import Bags

    bags = Bags.of([np.array(one, np.int64) for one in queries], (3, 7))
    plain = [[piece for piece in one if piece not in (3, 7)] for one in queries]
    chosen = data.draw(st.lists(st.integers(0, len(queries) - 1), max_size=9)) if queries else []
    picked = bags.some(np.array(chosen, np.int64))
    for got, wanted in ((bags, plain), (picked, [plain[at] for at in chosen])):
        assert got.queries == len(wanted)
        assert [part.tolist() for part in np.split(got.ids, got.starts[1:-1])][: len(wanted)] == wanted


@pytest.mark.parametrize("width", [0, 5])
def test_the_forward_sum_and_its_gradient_are_those_of_a_plain_loop(static, width):
    import torch

    ids, targets = made(12)
    bags = static.Bags.of(ids, SPECIALS)
    table, projection = static.narrowed(start_of(), width)
    rows, place = torch.unique(torch.from_numpy(bags.ids), return_inverse=True)
    held = torch.from_numpy(table)[rows].requires_grad_()
    turned = None if projection is None else torch.from_numpy(projection).requires_grad_()
    got = static._summed(held, place, torch.from_numpy(bags.starts[:-1]), turned)
    (got * torch.from_numpy(targets)).sum().backward()

    whole = torch.from_numpy(table).double().requires_grad_()
    other = None if projection is None else torch.from_numpy(projection).double().requires_grad_()
    plain = []
    for one in ids:
        total = sum(whole[piece] for piece in one.tolist() if piece not in SPECIALS)
        total = total if other is None else total @ other
        plain.append(total / total.norm())
    plain = torch.stack(plain)
    (plain * torch.from_numpy(targets)).sum().backward()
    np.testing.assert_allclose(got.detach(), plain.detach(), atol=1e-6)
    np.testing.assert_allclose(held.grad, whole.grad[rows], atol=1e-6)
    if turned is not None:
        np.testing.assert_allclose(turned.grad, other.grad, atol=1e-5)
    np.testing.assert_allclose(
        static.StaticTable(table, projection).encode([one[1:-1] for one in ids]), got.detach(), atol=1e-6
    )


def test_one_row_moves_as_adam_does_with_a_moment_for_the_row(static):
    import torch

    rows = static.Rows(torch.zeros(3, 2))
    gradient = torch.tensor([[3.0, 4.0]])
    rows.move(torch.tensor([1]), gradient, 0.1)
    # the first step is as long as the rate a coordinate, along the gradient: 0.1 * g / sqrt(mean(g^2))
    expected = -0.1 * gradient / np.sqrt(12.5)
    np.testing.assert_allclose(rows.values, torch.cat([torch.zeros(1, 2), expected, torch.zeros(1, 2)]), rtol=1e-6)
    rows.move(torch.tensor([1]), gradient, 0.1)
    np.testing.assert_allclose(rows.values[1], 2 * expected[0], rtol=1e-5)
    assert rows.met.tolist() == [0, 2, 0]


def test_training_comes_nearer_the_targets(static):
    ids, targets = made()
    measured = []
    table = train(static, ids, targets, RECIPE.changed({"steps": 150}), on_step=measured.append)
    before = distance(static, static.StaticTable(start_of(), None), ids, targets)
    assert distance(static, table, ids, targets) < 0.25 * before
    assert [one["step"] for one in measured] == list(range(1, 151))
    assert measured[0]["distance"] == measured[0]["loss"]
    assert table.table.dtype == np.float32


@pytest.mark.parametrize("losses", [{}, {"kl": 0.5, "infonce": 0.1}])
def test_the_same_seed_gives_the_same_table_and_another_one_another(static, losses):
    ids, targets = made()
    documents = unit(np.random.default_rng(1).normal(size=(25, WIDTH)))
    positives = np.random.default_rng(2).integers(-1, 25, len(ids))
    given_ = {"document_vectors": documents, "positives": positives}
    recipe = RECIPE.changed({"losses": losses})
    first, again = (train(static, ids, targets, recipe, **given_) for _ in range(2))
    other = train(static, ids, targets, recipe.changed({"seed": 9}), **given_)
    np.testing.assert_array_equal(first.table, again.table)
    assert np.abs(first.table - other.table).max() > 1e-3
    if losses:
        assert np.abs(first.table - train(static, ids, targets).table).max() > 1e-3


@pytest.mark.parametrize("width", [0, 5])
def test_an_interrupted_training_ends_where_an_uninterrupted_one_does(static, tmp_path, width):
    ids, targets = made()
    recipe = RECIPE.changed({"table_width": width})
    whole = train(static, ids, targets, recipe)

    def stop(measured):
        if measured["step"] == 25:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(static, ids, targets, recipe, checkpoint=tmp_path, checkpoint_every=10, on_step=stop)
    steps = []
    resumed = train(static, ids, targets, recipe, checkpoint=tmp_path, on_step=lambda m: steps.append(m["step"]))
    assert steps == list(range(21, 41))
    np.testing.assert_array_equal(resumed.table, whole.table)
    if width:
        assert resumed.projection.shape == (width, WIDTH)
        np.testing.assert_array_equal(resumed.projection, whole.projection)
    again = train(static, ids, targets, recipe, checkpoint=tmp_path, on_step=steps.append)  # finished: nothing to do
    assert len(steps) == 20
    np.testing.assert_array_equal(again.table, whole.table)


def test_pieces_that_no_query_has_keep_their_start(static):
    ids, targets = made(used=20)
    table = train(static, ids, targets).table
    np.testing.assert_array_equal(table[20:], start_of()[20:])
    np.testing.assert_array_equal(table[list(SPECIALS)], np.zeros((2, WIDTH)))
    assert (np.abs(table[2:20] - start_of()[2:20]).max(axis=1) > 1e-3).all()


def test_first_rows_are_centred_directions_shorter_the_commoner(static):
    alone = np.array([[9, 9], [1, 0], [0, 1], [1, 1]], np.float32)
    rows = static.first_table(alone, np.array([50, 0, 30, 10]), specials=[0], common=0.25)
    centred = alone - alone.mean(axis=0)
    # of 40 pieces that are not special: shares 0, 0.75, 0.25
    expected = centred / np.linalg.norm(centred, axis=1, keepdims=True) * np.array([[0], [1], [0.25], [0.5]])
    np.testing.assert_allclose(rows, expected, rtol=1e-6)


def test_centroids_are_mean_targets_and_nothing_for_unseen_pieces(static):
    bags = static.Bags.of([np.array([2, 3]), np.array([3]), np.array([4])])
    targets = np.array([[1, 0], [0, 1], [-1, -1]], np.float32)  # their mean is zero
    rows = static.centroids(bags, targets, 6, common=0.25)
    assert rows[[0, 1, 5]].tolist() == [[0, 0]] * 3
    root = np.sqrt(0.5)
    np.testing.assert_allclose(rows[2:5], [[0.5, 0], [root / 3, root / 3], [-root / 2, -root / 2]], rtol=1e-6)


def test_without_first_values_it_begins_with_centroids(static):
    ids, targets = made()
    table = train(static, ids, targets, start=None)
    assert table.table[20:].tolist() == np.zeros((10, WIDTH)).tolist()
    assert distance(static, table, ids, targets) < 0.2


def test_a_narrow_table_keeps_the_principal_directions(static):
    rows = np.zeros((6, 4), np.float32)
    rows[:, 1], rows[:, 3] = [3, 1, 2, 5, 4, 1], [1, -1, 2, 0, 1, 1]
    table, projection = static.narrowed(rows, 2)
    assert (table.shape, projection.shape) == ((6, 2), (2, 4))
    np.testing.assert_allclose(table @ projection, rows, atol=1e-5)
    np.testing.assert_allclose(projection @ projection.T, np.eye(2), atol=1e-6)


def test_pieces_are_encoded_alone_as_transformers_does(static, tmp_path):
    import torch
    from plait.train.model import Trunk
    from transformers import BertModel

    folder = tiny.base(tmp_path / "base")
    rows = static.encoded_alone(Trunk(folder, 1), 2, 3)
    model = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    assert len(rows) == model.config.vocab_size
    for piece in (0, 7, 19):
        with torch.no_grad():
            states = model(input_ids=torch.tensor([[2, piece, 3]])).last_hidden_state[0]
        np.testing.assert_allclose(rows[piece], unit(states.mean(dim=0, keepdim=True).numpy())[0], atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        (
            {"strand": "learned", "losses": {"kl": 1.0}},
            {},
            "recipe 'static-query' is of strand 'learned': a query table needs strand 'dense'",
        ),
        ({"table_width": 9}, {}, "table_width is 9, but the vectors have 8 numbers"),
        ({"losses": {"kl": 1.0}}, {}, "the losses kl compare scores: give document_vectors"),
        ({}, {"vocabulary": 10, "start": None}, r"ids go from 2 to 19, expected 0 to 9"),
        ({}, {"start": np.zeros((4, 8), np.float32)}, r"start is \(4, 8\), expected \(30, 8\)"),
        ({}, {"document_vectors": np.zeros((4, 7), np.float32)}, r"document_vectors are \(4, 7\), expected"),
        ({}, {"positives": np.zeros(60, np.int64)}, "positives are 60 up to 0, expected 60 below 0"),
        ({}, {"specials": range(WORDS)}, "none of 60 queries has a word piece"),
    ],
)
def test_what_does_not_fit_is_named(static, changes, options, said):
    ids, targets = made()
    with pytest.raises(TrainError, match=said):
        train(static, ids, targets, RECIPE.changed(changes), **options)


def test_targets_that_are_too_few_or_no_numbers_are_named(static):
    ids, targets = made()
    with pytest.raises(TrainError, match=r"targets are \(59, 8\), expected \(60, d\)"):
        train(static, ids, targets[1:])
    with pytest.raises(TrainError, match="the loss of step 1 is not a number: lower `rate`"):
        train(static, ids, targets * np.float32("nan"))


def test_a_checkpoint_of_something_else_is_refused(static, tmp_path):
    ids, targets = made()
    train(static, ids, targets, checkpoint=tmp_path)
    other = "was made by another recipe or from other queries: give another folder"
    with pytest.raises(TrainError, match=other):
        train(static, ids, targets, RECIPE.changed({"seed": 2}), checkpoint=tmp_path)
    with pytest.raises(TrainError, match=other):
        train(static, ids, targets[::-1].copy(), checkpoint=tmp_path)
    with pytest.raises(TrainError, match=other):
        train(static, ids, targets, RECIPE.changed({"table_width": 4}), checkpoint=tmp_path)
    (tmp_path / "table.safetensors").write_bytes(b"damaged")
    with pytest.raises(TrainError, match=r"table\.safetensors cannot be read \(.*\): remove it to begin anew"):
        train(static, ids, targets, checkpoint=tmp_path)
