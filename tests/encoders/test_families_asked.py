"""Families however they are asked: in batches or apart, in half precision, about nothing, about what is no text."""

from __future__ import annotations

import numpy as np
import pytest
from plait.encoders import EncoderError, load_dense, load_learned

from . import tiny
from .tiny import BASE, CAUSAL, LENGTH, MASKED, TEXTS

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


def opened(folder, family, **options):
    more = "".join(f":{name}={value}" for name, value in options.items())
    return load_learned(f"{folder}:family={family}:runtime=torch{more}", max_length=LENGTH)


def dense(folder, family=None, **options):
    given = {"runtime": "torch", **({"family": family} if family else {}), **options}
    return load_dense(str(folder) + "".join(f":{name}={value}" for name, value in given.items()))


def folder_of(family):
    own = {"unicoil": tiny.unicoil, "deepimpact": tiny.deepimpact}
    return own[family]() if family in own else tiny.checkpoint("bert")


@pytest.mark.parametrize(
    ("architecture", "head", "family"),
    [("roberta", MASKED, "splade"), ("bert", MASKED, "splade-v1"), ("modernbert", MASKED, "splade"),
     ("llama", CAUSAL, "mistral-splade"), ("gemma2", CAUSAL, "splade")],
)  # fmt: skip
def test_batches_do_not_matter(architecture, head, family):
    folder = tiny.checkpoint(architecture, head)
    encoder = opened(folder, family)
    single = np.vstack([encoder.encode_documents([text]).toarray() for text in TEXTS])
    for budget in (1, 100, 10**6):
        batched = opened(folder, family, token_budget=budget).encode_documents(TEXTS).toarray()
        np.testing.assert_allclose(batched, single, atol=1e-5, rtol=1e-5)
    again = opened(folder, family).encode_documents(TEXTS[::-1]).toarray()[::-1]
    np.testing.assert_allclose(again, single, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["splade", "splade-doc", "opensearch-doc", "unicoil", "deepimpact"])
def test_texts_without_anything(family):
    encoder = opened(folder_of(family), family)
    assert encoder.encode_documents([]).shape == encoder.encode_queries([]).shape == (0, encoder.identity.dim)
    for text in ("", " ", "\n\t\u200b"):
        np.testing.assert_array_equal(
            encoder.encode_documents([text]).toarray(), encoder.encode_documents([""]).toarray()
        )
    if family not in ("splade", "unicoil"):  # the others know no special tokens as terms of a query
        assert encoder.encode_queries(["", "  "]).nnz == 0


def test_a_tokenizer_that_adds_nothing_to_an_empty_text():
    encoder = opened(tiny.checkpoint("qwen2", CAUSAL, around=tiny.NOTHING), "splade")
    found = encoder.encode_documents(["", "search", ""])
    assert found.getnnz(1).tolist()[::2] == [0, 0]
    assert found.getnnz(1)[1] > 0


@pytest.mark.parametrize("family", ["splade", "deepimpact", "opensearch-doc"])
def test_lone_surrogates_are_replaced(family):
    encoder, broken, whole = (
        opened(folder_of(family), family),
        "sea\ud800rch \udfff engine",
        "sea\ufffdrch \ufffd engine",
    )
    for encode in (encoder.encode_documents, encoder.encode_queries):
        np.testing.assert_array_equal(encode([broken]).toarray(), encode([whole]).toarray())
    assert list(encoder.term_names(broken)) == list(encoder.term_names(whole))


def test_what_is_no_text():
    encoder = opened(tiny.checkpoint("bert"), "splade")
    with pytest.raises(EncoderError, match="text 1 is a int, expected a str"):
        encoder.encode_documents(["a", 1])
    with pytest.raises(EncoderError, match="expected a list of texts, got one str"):
        encoder.encode_queries("search")


def test_names_of_terms():
    encoder = opened(tiny.checkpoint("bert"), "splade")
    names = encoder.term_names("search")
    columns = encoder.encode_queries(["search"]).indices.tolist()
    assert list(names) == columns
    assert {"search"} <= set(opened(tiny.checkpoint("bert"), "splade-doc").term_names("search engine").values())


@pytest.mark.parametrize(
    ("architecture", "family"),
    [
        ("bert", "contriever"),
        ("roberta", "bge"),
        ("modernbert", "e5"),
        ("qwen3", "last-token"),
        ("gemma2", "last-token"),
    ],
)
def test_batches_do_not_matter_to_dense_vectors(architecture, family):
    folder = tiny.checkpoint(architecture, BASE)
    encoder = dense(folder, family)
    single = np.vstack([encoder.encode_documents([text]) for text in TEXTS])
    for budget in (1, 100, 10**6):
        batched = dense(folder, family, token_budget=budget).encode_documents(TEXTS)
        np.testing.assert_allclose(batched, single, atol=1e-5)
    again = dense(folder, family).encode_documents(TEXTS[::-1])[::-1]
    np.testing.assert_allclose(again, single, atol=1e-5)
    assert again.dtype == np.float32


def test_dense_vectors_of_texts_without_anything_and_lone_surrogates():
    for folder, family in (
        (tiny.checkpoint("bert", BASE), None),
        (tiny.checkpoint("qwen2", BASE, around=tiny.NOTHING), "last-token"),
    ):
        encoder = dense(folder, family)
        assert encoder.encode_documents([]).shape == encoder.encode_queries([]).shape == (0, 32)
        assert np.isfinite(encoder.encode_documents(["", " ", "\n"])).all()
        np.testing.assert_array_equal(encoder.encode_documents(["a\ud800b"]), encoder.encode_documents(["a\ufffdb"]))
    assert not encoder.encode_documents([""]).any()  # a text without tokens is nowhere


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision(precision):
    folder = tiny.checkpoint("bert", BASE)
    whole, half = dense(folder, "e5"), load_dense(f"{folder}:family=e5:precision={precision}")
    cosines = (half.encode_documents(TEXTS) * whole.encode_documents(TEXTS)).sum(1)
    assert cosines.min() > 0.99
    assert whole.identity.differences(half.identity) == ["revision"]
    assert half.encode_documents(TEXTS).dtype == np.float32


@pytest.mark.parametrize("pooling", ["mean", "weightedmean"])
def test_sums_over_many_tokens_are_not_made_in_half_precision(pooling):
    """bfloat16 knows no whole numbers between 256 and 258: the places of tokens would be wrong."""
    folder = tiny.checkpoint("qwen3", BASE, around=tiny.END)
    whole, half = (dense(folder, pooling=pooling, max_length=500, precision=each) for each in ("fp32", "bf16"))
    states_of_it = half.joint.model.heads.trunk(torch.tensor([[*half.joint.layout.ids([TEXTS[-2]], "document")[0]]]))[
        0
    ][0]
    weights = torch.ones(len(states_of_it)) if pooling == "mean" else torch.arange(1.0, len(states_of_it) + 1)
    assert len(states_of_it) == 500
    exact = (states_of_it.double() * weights[:, None]).sum(0) / weights.sum()
    np.testing.assert_allclose(half.encode_documents([TEXTS[-2]])[0], exact.numpy(), rtol=2**-7, atol=1e-3)
    assert np.abs(half.encode_documents([TEXTS[-2]]) - whole.encode_documents([TEXTS[-2]])).max() < 0.1
