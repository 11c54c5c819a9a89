"""How many tokens models read: all of them, once each, whoever's thread reads them."""

from __future__ import annotations

import threading

import pytest
from plait.encoders import load_joint
from plait.encoders.counting import Tokens, count, counting

from .joint_folders import Kind, make_joint


def tokens_of(encoder, texts):
    return sum(map(len, encoder._model.tokenizer.id_lists(texts)))


@pytest.mark.parametrize("options", [{"threads": 1}, {"threads": 5}, {"token_budget": 1}])
def test_every_token_counts_once(encoder, texts, options):
    opened = encoder("bert-pooled", **options)
    with counting() as tokens:
        opened.encode_documents(texts)
    assert tokens.total == tokens_of(opened, texts)


def test_a_joint_pass_counts_once(tmp_path):
    joint = load_joint(make_joint(Kind(), tmp_path / "joint"))
    with counting() as tokens:
        joint.encode_documents(["open access"])
    once = tokens.total
    with counting() as tokens:
        joint.learned.encode_documents(["open access"])
        joint.dense.encode_documents(["open access"])
    assert tokens.total == 2 * once > 0


def test_a_tokenizer_alone_reads_nothing(encoder, texts):
    with counting() as tokens:
        encoder("bert-masked").encode_queries(texts)
    assert tokens.total == 0


def test_counters_may_overlap_and_go_on():
    count(1)  # nobody hears
    mine = Tokens()
    with counting(mine) as same, counting() as inner:
        count(2)
    with counting(mine):
        count(3)
    count(4)
    assert same is mine
    assert (mine.total, inner.total) == (5, 2)


def test_no_token_is_lost_between_threads():
    def work():
        for _ in range(2_000):
            count(1)

    with counting() as tokens:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert tokens.total == 16_000


def test_an_error_ends_the_counting():
    with pytest.raises(ZeroDivisionError), counting() as tokens:
        raise ZeroDivisionError
    count(7)
    assert tokens.total == 0
