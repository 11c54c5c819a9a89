"""Batches, threads and what may not be encoded."""

from __future__ import annotations

import signal
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.encoders import EncoderError
from plait.encoders.onnx_runtime import batches, in_threads


@given(st.lists(st.integers(2, 64)), st.integers(1, 200))
def test_batches_hold_one_length_and_keep_the_budget(lengths, budget):
    found = batches(lengths, budget)
    assert sorted(position for batch in found for position in batch) == list(range(len(lengths)))
    for batch in found:
        assert len({lengths[position] for position in batch}) == 1
        assert len(batch) == 1 or len(batch) * lengths[batch[0]] <= budget


def test_batches_start_with_the_longest():
    assert batches([2, 5, 2, 5, 2], 10) == [[1, 3], [0, 2, 4]]
    assert batches([2, 2, 2], 4) == [[0, 1], [2]]
    assert batches([], 4) == []


@pytest.mark.parametrize("name", ["bert-pooled", "bert-masked"])
def test_budget_and_threads_change_nothing(name, encoder, texts):
    usual = encoder(name).encode_documents(texts)
    for options in ({"token_budget": 1}, {"token_budget": 100_000}, {"threads": 1}, {"threads": 5}):
        difference = abs(encoder(name, **options).encode_documents(texts) - usual)
        assert difference.max() < 1e-5


def test_no_batch_exceeds_the_budget(encoder, texts, monkeypatch):
    opened = encoder("bert-pooled", token_budget=50)
    shapes = []
    output = opened._model.output
    monkeypatch.setattr(opened._model, "output", lambda ids: (shapes.append(ids.shape), output(ids))[1])
    opened.encode_documents(texts * 4)
    assert all(rows == 1 or rows * length <= 50 for rows, length in shapes)
    assert max(rows for rows, _ in shapes) > 1


def test_order_is_kept(encoder, texts):
    opened = encoder("bert-pooled")
    forward, backward = opened.encode_documents(texts), opened.encode_documents(texts[::-1])
    np.testing.assert_allclose(forward, backward[::-1], atol=1e-6)


def test_truncation_is_where_sentence_transformers_says(encoder):
    opened = encoder("bert-pooled")
    assert opened.identity.max_length == 48
    words = ["open"] * 60
    np.testing.assert_array_equal(
        opened.encode_documents([" ".join(words)]), opened.encode_documents([" ".join(words[:46])])
    )


def test_no_texts(encoder):
    vectors = encoder("bert-pooled").encode_documents([])
    assert (vectors.shape, vectors.dtype) == ((0, 32), np.float32)
    opened = encoder("bert-masked")
    for matrix in (opened.encode_documents([]), opened.encode_queries([])):
        assert (matrix.shape, matrix.dtype) == ((0, opened.identity.dim), np.float32)


def test_dense_output_is_contiguous_float32(encoder, texts):
    vectors = encoder("bert-pooled").encode_queries(texts)
    assert vectors.flags.c_contiguous
    assert vectors.dtype == np.float32


@pytest.mark.parametrize("wrong", [None, 7, b"bytes", ["list"]])
@pytest.mark.parametrize("name", ["bert-pooled", "bert-masked"])
def test_a_text_that_is_no_str_is_named_by_position(name, wrong, encoder):
    opened = encoder(name)
    for encode in (opened.encode_documents, opened.encode_queries):
        with pytest.raises(EncoderError, match=f"text 2 is a {type(wrong).__name__}, expected a str"):
            encode(["fine", "fine", wrong])


@pytest.mark.parametrize("name", ["bert-pooled", "bert-masked"])
def test_one_str_is_no_list_of_texts(name, encoder):
    with pytest.raises(EncoderError, match="put it in a list"):
        encoder(name).encode_documents("text")


def test_inputs_are_not_modified(encoder, texts):
    given_texts = list(texts)
    encoder("bert-masked").encode_documents(given_texts)
    assert given_texts == texts


@pytest.mark.parametrize("options", [{"threads": 0}, {"token_budget": 0}, {"max_length": 2}, {"max_length": 65}])
def test_settings_out_of_bounds_are_named(options, encoder):
    (name,) = options
    with pytest.raises(EncoderError, match=f"{name} is .*, expected a whole number from"):
        encoder("bert-pooled", **options)


def test_an_encoder_may_be_shared_between_threads(encoder, texts):
    opened = encoder("bert-masked", "int8")
    expected = encoder("bert-masked", "int8").encode_documents(texts)
    found = [None] * 4

    def work(number):
        found[number] = opened.encode_documents(texts)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(abs(matrix - expected).max() < 1e-5 for matrix in found)


def test_the_first_error_cancels_what_has_not_started():
    done = []

    def work(item):
        done.append(item[0])
        time.sleep(0.002)
        if item[0] == 3:
            raise EncoderError("three")

    with pytest.raises(EncoderError, match="three"):
        in_threads(work, [[number] for number in range(2_000)], threads=2)
    assert len(done) < 2_000


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no way to send Ctrl-C to the main thread")
def test_ctrl_c_stops_encoding():
    done = []
    main = threading.main_thread().ident

    def work(item):
        done.append(item[0])
        if item[0] == 5:
            signal.pthread_kill(main, signal.SIGINT)
        time.sleep(0.005)

    with pytest.raises(KeyboardInterrupt):
        in_threads(work, [[number] for number in range(2_000)], threads=2)
    assert len(done) < 2_000
