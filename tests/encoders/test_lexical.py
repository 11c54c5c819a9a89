"""The analyser: which terms a text has, in which language, and where they land."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.encoders.contract import EncoderError, SparseEncoder
from plait.encoders.lexical import LEXICAL_SPACE, Analyser, LexicalEncoder, term_id, words


@pytest.mark.parametrize(
    ("language", "text", "terms"),
    [
        ("english", "The runners' dogs aren't running", ["runner", "dog", "arent", "run"]),
        ("en", "It's John's raw_decode of json.dumps(3.14)", ["john", "raw", "decod", "json", "dump", "3", "14"]),
        ("english", "ＦＵＬＬ width, Straße, ﬁnance", ["full", "width", "strass", "financ"]),
        ("german", "Die Häuser in den Straßen", ["haus", "strass"]),
        ("french", "l’école qu'elle a vue", ["écol", "a", "vu"]),
        ("english", "東京都 visit", ["東京", "京都", "visit"]),
        ("english", "我 and ประเทศ", ["我", "ปร", "ระ", "ะเ", "เท", "ทศ"]),
        ("none", "The Häuser", ["the", "häuser"]),
        ("hi", "अनुच्छेद में", ["अनुच्छेद", "म"]),
        ("english", "  \n\t… — !? ", []),
        ("english", "the of and", []),
        ("english", "'' ' ’s", ["s"]),
        ("english", "E=mc² at 37°C, C++ & .NET 👩‍🔬", ["e", "mc2", "37", "c", "c", "net"]),
    ],
)
def test_terms_of_a_text(language, text, terms):
    assert Analyser(language)(text) == terms


def test_stop_words_are_a_setting():
    assert Analyser("english", stop_words=["bee"])("the bee") == ["the"]
    assert Analyser("english", stop_words=[])("the bee") == ["the", "bee"]


@pytest.mark.parametrize("language", ["zh", "Thai", "ja", "korean"])
def test_a_language_of_bigrams_needs_no_stemmer(language):
    assert (
        Analyser(language)("running 北京大学")
        == Analyser("none")("running 北京大学")
        == ["running", "北京", "京大", "大学"]
    )


def test_an_unknown_language_lists_what_there_is():
    with pytest.raises(EncoderError, match=r"no analyser for language 'klingon'; choose one of: arabic, .*'none'"):
        Analyser("klingon")


@given(st.text())
def test_every_text_has_terms_without_spaces_in_the_lexical_space(text):
    for column, term in Analyser("english").terms(text):
        assert term == "".join(term.split())
        assert 0 <= column < LEXICAL_SPACE


@given(st.text(alphabet="abc 東京都ก'’-_é", max_size=30))
def test_words_do_not_depend_on_what_surrounds_the_text(text):
    assert list(words(f"  {text}\n")) == list(words(text))


def test_counts_are_counts():
    encoder = LexicalEncoder()
    rows = encoder.encode_documents(["bee bees snow", "", "the"])
    assert isinstance(encoder, SparseEncoder)
    assert rows.shape == (3, LEXICAL_SPACE)
    assert rows.indptr.tolist() == [0, 2, 2, 2]
    found = dict(zip(rows.indices.tolist(), rows.data.tolist(), strict=True))
    assert found == {term_id("bee"): 2.0, term_id("snow"): 1.0}
    assert encoder.term_names("the bees") == {term_id("bee"): "bee"}
    assert encoder.encode_queries([]).shape == (0, LEXICAL_SPACE)


def test_a_term_has_the_same_column_in_every_process():
    assert term_id("bee") == 2355120921
    script = "from plait.encoders.lexical import term_id; print(term_id('bee'))"
    for seed in ("1", "2"):
        said = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        )
        assert said.stdout.strip() == str(term_id("bee"))


def test_identity_tells_languages_and_stop_words_apart():
    identities = {
        LexicalEncoder(language, stop_words=stops).identity
        for language, stops in [("english", None), ("english", []), ("german", None)]
    }
    assert len(identities) == 3
    assert LexicalEncoder("en").identity == LexicalEncoder("english").identity


def test_the_memo_may_fill_up_without_changing_anything(monkeypatch):
    analyser = Analyser("english")
    before = analyser("bees make honey")
    analyser._terms.update({str(i): None for i in range(2**20)})
    assert analyser("bees make honey in winter") == [*before, "winter"]
