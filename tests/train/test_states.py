"""States that are kept: equal to live ones but for their rounding, and those of this trunk and these texts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

from plait.encoders import load_dense  # noqa: E402
from plait.encoders.build import build  # noqa: E402
from plait.encoders.checkpoint import read_checkpoint  # noqa: E402
from plait.train import states  # noqa: E402
from plait.train.errors import TrainError  # noqa: E402
from plait.train.model import Trunk  # noqa: E402
from plait.train.states import Live, QuantisedLayers, TorchLayers, grouped, keep, padded, pieces  # noqa: E402

from . import tiny  # noqa: E402

CPU = torch.device("cpu")
IDS = [np.array([2, *range(5, 5 + length), 3]) for length in (4, 0, 9, 1, 1, 7, 3)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.base(tmp_path_factory.mktemp("states") / "base")


@pytest.fixture
def trunk(folder):
    return Trunk(folder, 1).eval().requires_grad_(False)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(states, "SHARD", 3)


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 100))
def test_groups_hold_every_position_once_and_keep_to_the_budget(lengths, budget):
    groups = grouped(lengths, budget)
    assert sorted(at for group in groups for at in group) == list(range(len(lengths)))
    order = [lengths[at] for group in groups for at in group]
    assert order == sorted(lengths, reverse=True)
    assert all(len(group) == 1 or len(group) * lengths[group[0]] <= budget for group in groups)


def test_padded():
    ids, mask = padded([np.array([2, 3]), np.array([7])], CPU)
    assert ids.tolist() == [[2, 3], [7, 0]]
    assert mask.tolist() == [[True, True], [True, False]]


def test_pieces():
    assert [list(piece) for piece in pieces([1, 2, 3, 4, 5], 2)] == [[1, 2], [3, 4], [5]]


def test_kept_states_are_live_ones_rounded_to_8_bits(trunk, tmp_path):
    told = []
    kept = keep(TorchLayers(trunk, CPU, precise=True), IDS, tmp_path, CPU, on_progress=lambda *at: told.append(at))
    assert told == [(3, 7), (6, 7), (7, 7)]
    live = Live(trunk, IDS, CPU)
    for documents in ([0], [6, 1, 3], [5, 2, 0, 1, 4], [3, 3]):
        ours, mask = kept(documents)
        theirs, same = live(documents)
        assert torch.equal(mask, same)
        half_a_step = theirs.abs().amax(dim=2, keepdim=True) / 127 / 2
        assert bool(((ours - theirs).abs() <= half_a_step * 1.001)[mask].all())
        assert not ours[~mask].any()
    assert kept.vectors is None


def test_states_are_computed_once(trunk, tmp_path, monkeypatch):
    first = keep(TorchLayers(trunk, CPU), IDS, tmp_path, CPU)([2, 6])[0]
    (home,) = tmp_path.iterdir()
    assert len(list(home.iterdir())) == 9
    (home / "000001.codes.npy").unlink()  # as an interruption leaves it
    monkeypatch.setattr(trunk, "below", _counted := _Counted(trunk.below))
    again = keep(TorchLayers(trunk, CPU), IDS, tmp_path, CPU)
    assert _counted.texts == 3
    assert torch.equal(again([2, 6])[0], first)


class _Counted:
    def __init__(self, verb):
        self.verb, self.texts = verb, 0

    def __call__(self, ids, mask):
        self.texts += len(ids)
        return self.verb(ids, mask)


def test_another_trunk_text_cut_or_precision_has_another_folder(trunk, folder, tmp_path):
    def homes():
        return len(list(tmp_path.iterdir()))

    keep(TorchLayers(trunk, CPU), IDS, tmp_path, CPU)
    keep(TorchLayers(trunk, CPU), IDS, tmp_path, CPU)
    assert homes() == 1
    keep(TorchLayers(trunk, CPU), [*IDS[:-1], np.array([2, 9, 3])], tmp_path, CPU)
    keep(TorchLayers(trunk, CPU), [np.concatenate(IDS[:2]), *IDS[2:]], tmp_path, CPU)
    keep(TorchLayers(trunk, CPU, precise=True), IDS, tmp_path, CPU)
    assert homes() == 4
    keep(TorchLayers(Trunk(folder, 2).eval(), CPU), IDS, tmp_path, CPU)
    assert homes() == 5
    with torch.no_grad():
        trunk.model.encoder.layer[1].output.dense.weight[0, 0] += 1  # above the cut
        keep(TorchLayers(trunk, CPU), IDS, tmp_path, CPU)
        assert homes() == 5
        trunk.model.encoder.layer[0].output.dense.weight[0, 0] += 1
    keep(TorchLayers(trunk, CPU), IDS, tmp_path, CPU)
    assert homes() == 6


def test_a_state_that_is_no_number_ends_it(trunk, tmp_path):
    with torch.no_grad():
        trunk.words[7] = torch.nan
    with pytest.raises(TrainError, match=r"^a state of the frozen layers is not a number: the checkpoint is damaged$"):
        keep(TorchLayers(trunk, CPU), IDS, tmp_path, CPU)
    assert [path.name for home in tmp_path.iterdir() for path in home.iterdir()] == []


# The int8 encoder's own layers


def test_quantised_layers_give_the_states_and_vectors_of_the_int8_encoder(folder, trunk, tmp_path):
    checkpoint = read_checkpoint(folder)
    kept = keep(QuantisedLayers(checkpoint, 1), IDS, tmp_path / "states", CPU)
    live = Live(trunk, IDS, CPU)
    for documents in ([0], [6, 1, 3], [5, 2, 0, 1, 4]):
        ours, mask = kept(documents)
        theirs, same = live(documents)
        assert torch.equal(mask, same)
        assert float(torch.cosine_similarity(ours[mask], theirs[mask], dim=1).min()) > 0.99
    build(folder, tmp_path / "int8", head="dense")
    encoder = load_dense(tmp_path / "int8")
    expected = np.concatenate([encoder._model.output(ids[None]) for ids in IDS])
    np.testing.assert_array_equal(kept.vectors, expected)


def test_a_quantised_state_depends_on_its_own_text_alone(folder, tmp_path):
    layers = QuantisedLayers(read_checkpoint(folder), 1, threads=1)
    kept = keep(layers, IDS, tmp_path / "all", CPU)
    for document, ids in enumerate(IDS):
        alone = keep(layers, [ids], tmp_path / "alone", CPU)
        assert torch.equal(alone([0])[0][0], kept([document])[0][0])
        np.testing.assert_array_equal(alone.vectors[0], kept.vectors[document])


def test_quantised_states_are_computed_once_for_these_weights_and_this_cut(folder, tmp_path):
    checkpoint = read_checkpoint(folder)
    first = keep(QuantisedLayers(checkpoint, 1), IDS, tmp_path, CPU)
    (home,) = tmp_path.iterdir()
    written = {path.name: path.stat().st_mtime_ns for path in home.iterdir()}
    again = keep(QuantisedLayers(checkpoint, 1), IDS, tmp_path, CPU)
    assert {path.name: path.stat().st_mtime_ns for path in home.iterdir()} == written
    assert torch.equal(first([2])[0], again([2])[0])
    keep(QuantisedLayers(checkpoint, 2), IDS, tmp_path, CPU)
    assert len(list(tmp_path.iterdir())) == 2
