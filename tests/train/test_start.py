"""The first values of a head: a document begins with its own words, and every term is active somewhere."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

from plait.train import start  # noqa: E402
from plait.train.errors import TrainError  # noqa: E402
from plait.train.model import Shape, SparseHead, Trunk  # noqa: E402
from plait.train.start import ACTIVE, begin  # noqa: E402
from plait.train.states import padded  # noqa: E402

from . import tiny  # noqa: E402

SPECIALS = [0, 1, 2, 3, 4]
LENGTH = 12


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A trunk whose states still say which word stood where, as those of a trained one do, and 300 documents."""
    folder = tiny.base(tmp_path_factory.mktemp("start") / "base")
    trunk = Trunk(folder, 0).eval().requires_grad_(False)
    random = torch.Generator().manual_seed(0)
    for name, tensor in trunk.named_parameters():
        if "LayerNorm" in name:
            tensor.fill_(1.0 if name.endswith("weight") else 0.0)
        else:
            tensor.normal_(0, 1.0 if "word_embeddings" in name else 0.1, generator=random)
    words = len(trunk.words)
    ids = np.random.default_rng(1).integers(5, words, (300, LENGTH))
    ids[:, 0], ids[:, -1] = 2, 3
    with torch.no_grad():
        table, mask = padded(list(ids), torch.device("cpu"))
        states = trunk.below(table, mask)[mask]
    return trunk, states, table.flatten()


def begun(made, *, terms=None, **shape):
    trunk, states, ids = made
    head = SparseHead(trunk, Shape(**{"branch": 0, "rank": None, "literal": False, **shape}), SPECIALS, terms)
    begin(head, trunk.words, states, ids, [LENGTH] * 300)
    return head


@pytest.mark.parametrize("shape", [{"gelu": False}, {"gelu": False, "rank": 24}, {"gelu": False, "rank": 40}], ids=str)
def test_a_tokens_own_word_has_the_largest_logit(made, shape):
    trunk, states, ids = made
    head = begun(made, **shape)
    with torch.no_grad():
        logits = head.transformed(states) @ head.table(trunk.words).T
    content = ids > 4
    assert float((logits.argmax(dim=1) == ids)[content].float().mean()) > 0.9
    if shape.get("rank"):
        own = logits[content].gather(1, ids[content, None])
        assert float(own.median()) == pytest.approx(start.OWN_LOGIT, rel=0.2)


@pytest.mark.parametrize("terms", [None, [5, 6, 20, 41]])
def test_each_term_is_active_in_a_few_documents(made, terms):
    trunk, states, ids = made
    terms = None if terms is None else torch.tensor(terms)
    head = begun(made, terms=terms, rank=16)
    with torch.no_grad():
        found = head(states, ids, [LENGTH] * 300, trunk.words, precise=True).dense() > 0
    share = found.float().mean(dim=0)[5:] if terms is None else found.float().mean(dim=0)[terms]
    assert share.tolist() == pytest.approx([ACTIVE] * len(share), abs=0.01)
    if terms is not None:
        assert int(found.any(dim=0).sum()) == 4


def test_tiles_change_no_threshold(made, monkeypatch):
    whole = begun(made, rank=16).bias
    monkeypatch.setattr(start, "TILE", 7)
    torch.testing.assert_close(begun(made, rank=16).bias, whole)


def test_documents_without_a_word_are_refused(made):
    trunk, states, _ = made
    head = SparseHead(trunk, Shape(branch=0), SPECIALS)
    with pytest.raises(TrainError, match=r"^a head begins with words, but the documents hold special tokens alone: "):
        begin(head, trunk.words, states[:4], torch.tensor([2, 3, 2, 3]), [2, 2])
