"""Plans: what is extrapolated from what, in numbers that can be worked out by hand; and a small real corpus."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.eval import EvalError, probing
from plait.eval.planning import (
    Prediction,
    Setting,
    combinations,
    judged,
    parsed_budgets,
    plan,
    predicted,
    told_bytes,
    told_seconds,
    vocabulary,
)
from plait.eval.probing import Corpus, Probe, probe, sizes, survey
from plait.retriever import Document, Retriever, StoreError

WORDS = ("snow", "honey", "iron", "river", "moth", "bread", "glass", "tide", "salt", "wool", "ship", "bee")


def documents(count):
    """Texts of 3 to 22 words, in no order of length; every one holds a word of its own."""
    for n in range(count):
        words = [WORDS[(n * k + k) % len(WORDS)] for k in range(2 + 7 * n % 20)]
        yield Document(id=f"d{n}", text=" ".join([f"word{n}", *words]), title=f"Number {n}")


PROBE = Probe(
    load=2.0, encode=0.01, tokens=100.0, store=0.001, merge=0.0005, start=0.5, postings=60.0, dim=384,
    terms={"lexical": (1000, 500, 1000)}, empty=1000, database=2000.0, arrays=3000.0, encoding_memory=10**9,
    buffer_memory=10_000.0, latency=2.0, touched=3.0, held=1000,
)  # fmt: skip
SETTING = Setting(("lexical", "dense"))


def corpus_of(count):
    return Corpus(count, True, 100.0, (), ())


def test_a_plan_by_hand():
    found = predicted(corpus_of(10_000), SETTING, PROBE)
    assert found.time == pytest.approx(2 + 0.5 + 10_000 * (0.01 + 0.001))
    assert found.memory == 10**9 + 10_000 * 10_000
    terms = 16 * 10_000 + 7 * (10_000 / 8192) * 8192  # a term a document: as many terms as documents
    assert found.size == pytest.approx(1000 + 10_000 * 5000 + terms)
    assert found.latency == pytest.approx(2 + 1000 * 9000 * (3 * 0.5e-9 + 384 * 0.165e-9))


def test_large_indexes_are_merged_and_propose_vectors_by_codes():
    found = predicted(corpus_of(1_000_000), SETTING, PROBE)
    assert found.parts["merge seconds"] == pytest.approx(1_000_000 * 0.0005 * 2)  # 62 commits: one tier, and the end
    assert found.parts["dense index bytes"] == 1_000_000 * (96 + 8)  # half a byte for each of 192 pairs, and a number
    assert found.parts["dense index seconds"] == pytest.approx(12)
    assert found.memory == 10**9 + 16_384 * 10_000
    flat = predicted(corpus_of(1_000_000), replace(SETTING, dense_index="flat"), PROBE)
    assert flat.parts["dense index bytes"] == flat.parts["dense index seconds"] == 0
    assert flat.latency > 3 * found.latency
    assert predicted(corpus_of(1_000_000), SETTING, replace(PROBE, dim=0)).parts["dense index bytes"] == 0


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_more_documents_never_cost_less(one, other):
    small, large = (predicted(corpus_of(n), replace(SETTING, dense_index="flat"), PROBE) for n in sorted((one, other)))
    for name in ("time", "memory", "size", "latency"):
        assert getattr(small, name) <= getattr(large, name)


def test_heaps_law():
    assert vocabulary(4000, (1000, 500, 1000)) == pytest.approx(4000)  # no term comes twice
    assert vocabulary(4000, (1000, 1000, 1000)) == 1000  # no term is new
    assert vocabulary(4000, (1000, 1000, 2000**0.5 * 1000**0.5)) == pytest.approx(2000**0.5 * 1000**0.5 * 2)
    assert vocabulary(4000, (1000, 500, 1000), 1500) == 1500
    assert vocabulary(4000, (0, 0, 0)) == vocabulary(4000, (10, 0, 0)) == 0


def test_budgets():
    assert parsed_budgets("time=2h, memory=4GB,size=1.5 TiB,latency=20ms") == {
        "time": 7200, "memory": 4e9, "size": 1.5 * 2**40, "latency": 20,
    }  # fmt: skip
    assert parsed_budgets(None) == {}
    for wrong in ("", "speed=3s", "time=1h,time=2h"):
        with pytest.raises(EvalError, match="--budget takes each of time, memory, size, latency once"):
            parsed_budgets(wrong)
    for wrong in ("time", "time=2", "time=2GB", "time=-2h", "time=0s", "time=h"):
        with pytest.raises(EvalError, match="the budget for time is a number with one of s, min, h, d; not"):
            parsed_budgets(wrong)


def test_what_is_over_a_budget_is_told():
    found = Prediction(SETTING, 7200.0, 3e9, 35e6, 12.0, {})
    assert judged(found, {"time": 3600.0, "memory": 4e9, "latency": 10.0}).over == (
        "time 2 h is over 1 h", "latency 12 ms is over 10 ms",
    )  # fmt: skip
    assert judged(found, {"time": 7200.0}).over == ()
    assert (told_seconds(90), told_seconds(5), told_bytes(999e6)) == ("1.5 min", "5 s", "999 MB")


def test_combinations_in_order_of_preference():
    found = combinations(["learned,dense", "lexical"], {"dense": ["a", "b"]}, [128], ["auto", "flat"])
    assert [one.name for one in found] == [
        "learned, dense; learned embedded:max_length=128; dense a:max_length=128",
        "learned, dense; learned embedded:max_length=128; dense a:max_length=128; dense index flat",
        "learned, dense; learned embedded:max_length=128; dense b:max_length=128",
        "learned, dense; learned embedded:max_length=128; dense b:max_length=128; dense index flat",
        "lexical",
    ]
    assert found[1].flags == [
        "--strands", "learned,dense", "--learned", "embedded:max_length=128", "--dense", "a:max_length=128",
        "--dense-index", "flat",
    ]  # fmt: skip
    paired = combinations(["learned,dense"], {"dense": ["a", "b"], "learned": ["c", "d"]}, [], ["auto"])
    assert [dict(one.models) for one in paired] == [{"learned": "c", "dense": "a"}, {"learned": "d", "dense": "b"}]


def test_a_survey_counts_and_spreads_the_sample_over_the_lengths():
    every = list(documents(50))
    corpus = survey(iter(every), sample=9)
    assert (corpus.documents, corpus.counted) == (50, True)
    assert corpus.characters == sum(len(d.full_text) for d in every) / 50
    lengths = [len(text) for part in corpus.sample for text in part]
    assert [len(part) for part in corpus.sample] == [3, 3, 3]
    assert lengths == sorted(lengths)
    assert lengths[0] < corpus.characters < lengths[-1]
    assert survey(iter(every), sample=9) == corpus
    assert [len(part) for part in survey(documents(2), sample=256).sample] == [1, 1]


def test_what_is_not_read_is_estimated():
    corpus = survey(documents(50), most=20, share_read=lambda: 0.4, sample=3)
    assert (corpus.documents, corpus.counted) == (50, False)
    assert len(corpus.stock) == 20
    assert survey(documents(50), most=20).documents == 20  # nothing tells of a rest
    assert survey(documents(50), expected=10**6).documents == 10**6
    with pytest.raises(EvalError, match="the corpus holds no document"):
        survey([])
    with pytest.raises(EvalError, match="a sample of 3 or more"):
        survey(documents(5), sample=2)


def test_a_probe_of_a_lexical_index_holds_what_the_index_holds(tmp_path):
    corpus = survey(documents(300))
    found = probe(corpus, ("lexical",), {})
    with Retriever.create(tmp_path / "i", strands="lexical") as retriever:
        retriever.add(documents(300))
        retriever.commit()
        facts = retriever.info()
    assert found.postings == facts["postings"] / 300
    assert (found.dim, found.tokens, found.held) == (0, 0.0, 300)
    assert found.terms["lexical"][0] == 300
    actual = sizes(tmp_path / "i")
    assert found.arrays * 300 == pytest.approx(actual["arrays"])
    assert found.empty + found.database * 300 == pytest.approx(actual["database"], rel=0.1)
    size = predicted(corpus, Setting(("lexical",)), found).size
    assert size == pytest.approx(sum(actual.values()), rel=0.1)
    assert min(found.encode, found.load, found.latency, found.start) > 0


def test_the_size_of_a_larger_index_is_predicted(tmp_path):
    """A few hundred documents tell of thousands: within a quarter, as promised."""
    found = survey(documents(400), expected=3000)
    (prediction,) = plan(found, [Setting(("lexical",))]).predictions
    with Retriever.create(tmp_path / "i", strands="lexical") as retriever:
        retriever.add(documents(3000))
    assert prediction.size == pytest.approx(sum(sizes(tmp_path / "i").values()), rel=0.25)


def test_a_plan_chooses_the_first_setting_that_fits():
    corpus, told = survey(documents(20), sample=6), []
    settings = combinations(["dense", "lexical"], {}, [], ["auto", "flat"])
    found = plan(corpus, settings, on_progress=lambda setting: told.append(setting.name))
    assert told == ["dense", "lexical"]  # measured once, however its vectors are searched
    assert found.chosen == found.predictions[0]
    dense, _, lexical = found.predictions
    assert dense.size > lexical.size
    fits = plan(corpus, settings, budgets={"size": (dense.size + lexical.size) / 2})
    assert fits.chosen is not None
    assert fits.chosen.setting.strands == ("lexical",)
    assert len(fits.reasons) == 2
    assert "dense: size " in fits.reasons[0]
    nothing = plan(corpus, settings[-1:], budgets={"size": 1.0})
    assert nothing.chosen is None
    assert len(nothing.reasons) == 1
    with pytest.raises(EvalError, match="there is no setting"):
        plan(corpus, [])


def test_memory_grows_with_what_is_held():
    """In a process of its own: in this one other tests' memory may be given back at the same moment."""
    code = (
        "from plait.eval.memory import Memory\n"
        "memory = Memory(); before = memory.peak()\n"
        "held = bytearray(50_000_000); held[::4096] = b'x' * len(held[::4096])\n"
        "print(before, memory.peak(), memory.peak(above=True))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after, above = map(int, done.stdout.split())
    assert after >= before
    assert not before or above > 40_000_000


def test_a_dense_index_that_cannot_be_is_told_before_a_text_is_encoded(monkeypatch):
    monkeypatch.setattr(probing, "_encoded", lambda *_: pytest.fail("a text was encoded"))
    setting = Setting(("dense",), {}, "bogus")
    with pytest.raises(StoreError, match="dense_index='bogus' is no FAISS index of 384 dimensions"):
        plan(survey(documents(12), sample=3), [replace(setting, dense_index="flat"), setting])


def test_a_probe_of_models_counts_their_tokens_terms_and_dimensions():
    corpus = survey(documents(12), sample=3)
    found = probe(corpus, ("learned", "dense"), {})
    assert (found.dim, found.held, set(found.terms)) == (384, 12, {"learned"})
    held, half, every = found.terms["learned"]
    assert held == 3
    assert 0 < half < every
    assert 3 < found.tokens < 40
    assert found.arrays > 4 * 384
