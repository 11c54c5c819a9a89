"""A document: what BEIR's text is, what is refused, and in which words."""

from __future__ import annotations

import dataclasses

import pytest
from plait.retriever.documents import Document, IngestError, check_document, check_id


@pytest.mark.parametrize(
    ("title", "text", "full"),
    [("A title", "a text", "A title a text"), ("", "a text", "a text"), ("A title", "", "A title"), (" ", " x ", "x")],
)
def test_full_text_is_title_space_text_stripped(title, text, full):
    assert Document("d", text, title).full_text == full


def test_a_document_is_frozen_and_its_metadata_its_own():
    one, other = Document("a", "x"), Document("b", "y")
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.text = "z"  # type: ignore[misc]
    assert one.metadata == {}
    assert one.metadata is not other.metadata
    assert hash(Document("a", "x", metadata={"k": [1]})) == hash(Document("a", "x"))


def test_a_valid_document_comes_back_itself():
    document = Document("d-1", "", "Title alone", {"year": 2020, "tags": ["a", None, 1.5, {"b": True}]}, "d", 7)
    assert check_document(document) is document


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (Document("", "x"), "the document id is empty; expected a string such as 'doc-17'"),
        (Document(3, "x"), "the document id is a number (3); expected a string"),
        (Document("a b", "x"), "holds ' ' at character 2; TREC runs are split on white space"),
        (Document("a\u2003b", "x"), "holds '\\u2003' at character 2"),
        (Document("a\x07", "x"), "holds '\\x07' at character 2"),
        (Document("d", None), "the text of document 'd' is null; expected a string"),
        (Document("d", "x", 5), "the title of document 'd' is a number; expected a string"),
        (Document("d", " \n"), "document 'd' is empty: give it a text or a title, or leave it out"),
        (Document("d", "ab\ud800"), "the text of document 'd' holds half a surrogate pair at character 3"),
        (Document("d", "x", metadata=[1]), "the metadata of document 'd' is a list; expected names and values"),
        (Document("d", "x", metadata={1: 2}), "a metadata name of document 'd' is a number (1), not a string"),
        (
            Document("d", "x", metadata={"a": [{"b": {9: 2}}]}),
            "a metadata name of document 'd' is a number (9), not a string",
        ),
        (Document("d", "x", metadata={"a": {None: 2}}), "a metadata name of document 'd' is null (None), not a string"),
        (Document("d", "x", metadata={"a": {1, 2}}), "cannot be written as JSON (Object of type set"),
        (Document("d", "x", metadata={"a": float("nan")}), "cannot be written as JSON"),
        (Document("d", "x", metadata={"a": "\udc80"}), "cannot be written as JSON"),
        (Document("d", "x", parent=""), "the parent id is empty"),
        (
            Document("d", "x", start=2**63),
            f"the start of document 'd' is {2**63}; expected a character offset, 0 or more",
        ),
        (Document("d", "x", start=-1), "the start of document 'd' is -1; expected a character offset, 0 or more"),
        (Document("d", "x", start=True), "the start of document 'd' is True"),
    ],
)
def test_what_cannot_be_indexed_is_named(document, message):
    with pytest.raises(IngestError) as caught:
        check_document(document)
    assert message in str(caught.value)


def test_ids_of_other_scripts_and_signs_are_fine():
    for name in ("<dbpedia:Animalia_(book)>", "文書-1", "नमस्ते", "a#0", "👩\u200d🚀", "x/y%20z.txt"):
        assert check_id(name) == name


def test_an_error_says_its_place():
    error = IngestError("no id", path="c.jsonl", line=3)
    assert (str(error), error.path, error.line, error.problem) == ("c.jsonl, line 3: no id", "c.jsonl", 3, "no id")
    assert str(IngestError("no id")) == "no id"
    assert str(IngestError("no id").at("c.jsonl")) == "c.jsonl: no id"
