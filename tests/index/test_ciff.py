"""CIFF: our codec against protobuf's with the official schema, and what broken files are told."""

from __future__ import annotations

import gzip
import io
import struct

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, proto
from hypothesis import given, settings
from hypothesis import strategies as st
from plait.index import StoreError, ciff, messages
from plait.index.spool import Spool

# The format as its authors publish it: message, then (name, number, type); a posting's docid is a gap.
SCHEMA = {
    "Header": [
        ("version", 1, "INT32"), ("num_postings_lists", 2, "INT32"), ("num_docs", 3, "INT32"),
        ("total_postings_lists", 4, "INT32"), ("total_docs", 5, "INT32"), ("total_terms_in_collection", 6, "INT64"),
        ("average_doclength", 7, "DOUBLE"), ("description", 8, "STRING"),
    ],
    "Posting": [("docid", 1, "INT32"), ("tf", 2, "INT32")],
    "PostingsList": [("term", 1, "STRING"), ("df", 2, "INT64"), ("cf", 3, "INT64"), ("postings", 4, "Posting")],
    "DocRecord": [("docid", 1, "INT32"), ("collection_docid", 2, "STRING"), ("doclength", 3, "INT32")],
}  # fmt: skip
LARGEST = 2**31 - 1
WORDS = st.text(min_size=1, max_size=8).filter(lambda text: text.isprintable())


def official():
    """Returns protobuf's own classes of the four messages."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="ciff.proto", package="io.osirrc.ciff", syntax="proto3")
    for name, fields in SCHEMA.items():
        made = file.message_type.add(name=name)
        for label, number, kind in fields:
            added = made.field.add(name=label, number=number, label=field.LABEL_OPTIONAL)
            if kind in SCHEMA:
                added.label, added.type = field.LABEL_REPEATED, field.TYPE_MESSAGE
                added.type_name = f".io.osirrc.ciff.{kind}"
            else:
                added.type = getattr(field, f"TYPE_{kind}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = (pool.FindMessageTypeByName(f"io.osirrc.ciff.{name}") for name in SCHEMA)
    return dict(zip(SCHEMA, map(message_factory.GetMessageClass, found), strict=True))


PB = official()


def delimited(*written):
    handle = io.BytesIO()
    for one in written:
        proto.serialize_length_prefixed(one, handle)
    return handle.getvalue()


def theirs(lists, records, **header):
    """Returns a file as protobuf writes it: lists are {term: {document: value}}, records (number, id, length)."""
    facts = {"version": 1, "num_postings_lists": len(lists), "num_docs": len(records), **header}
    parts = [PB["Header"](**facts)]
    for term, postings in lists.items():
        last, made = 0, PB["PostingsList"](term=term, df=len(postings), cf=sum(postings.values()))
        for document, value in sorted(postings.items()):
            made.postings.add(docid=document - last, tf=value)
            last = document
        parts.append(made)
    return delimited(*parts, *(PB["DocRecord"](docid=n, collection_docid=i, doclength=d) for n, i, d in records))


def ours(lists, records, **header):
    handle = io.BytesIO()
    facts = {"lists": len(lists), "documents": len(records), **header}
    writer = ciff.Writer(handle, ciff.Header(**facts))
    for term, postings in lists.items():
        pairs = np.array(sorted(postings.items()), np.int64).reshape(-1, 2)
        writer.postings(term, pairs[:, 0], pairs[:, 1])
    for record in records:
        writer.document(ciff.Record(*record))
    return handle.getvalue()


def read(path, data):
    path.write_bytes(data)
    with ciff.Reader(path) as reader:
        lists = {
            term: dict(zip(documents.tolist(), values.tolist(), strict=True))
            for term, documents, values in reader.postings()
        }
        return reader.header, lists, [tuple(record) for record in reader.documents()]


TINY = ({"bee": {0: 2, 200: 1}, "é": {1: 300}}, [(0, "a", 2), (1, "b", 300), (200, "c", 1)])


def test_the_bytes_of_a_small_file():
    head = bytes([8, 1, 16, 1, 24, 1, 40, 201, 1, 57]) + struct.pack("<d", 1.5) + b"\x42\x01x"
    bee = b"\x0a\x03bee\x10\x02\x18\x03" + bytes([34, 2, 16, 2]) + bytes([34, 5, 8, 200, 1, 16, 1])
    document = b"\x12\x01a\x18\x02"
    expected = b"".join(bytes([len(part)]) + part for part in (head, bee, document))
    found = ours({"bee": TINY[0]["bee"]}, [(0, "a", 2)], total_documents=201, average_length=1.5, description="x")
    assert found == expected


@settings(max_examples=60)
@given(data=st.data(), lists=st.dictionaries(WORDS, st.dictionaries(st.integers(0, 40), st.integers(1, LARGEST))))
def test_protobuf_reads_what_we_write_and_we_what_it_writes(data, lists, tmp_path_factory):
    wide = data.draw(st.sampled_from([1, 7, 300, LARGEST // 41]))
    lists = {term: {document * wide: value for document, value in found.items()} for term, found in lists.items()}
    records = [(document * wide, f"d{document}", data.draw(st.integers(0, LARGEST))) for document in range(41)]
    facts = {"total_docs": 40 * wide + 1, "average_doclength": 0.1, "description": "é"}
    known = {"total_documents": 40 * wide + 1, "average_length": 0.1, "description": "é"}
    assert ours(lists, records, **known) == theirs(lists, records, **facts)
    header, found, documents = read(tmp_path_factory.mktemp("ciff") / "a.ciff", theirs(lists, records, **facts))
    assert (found, documents) == (lists, records)
    assert header == ciff.Header(1, len(lists), 41, 0, 40 * wide + 1, 0, 0.1, "é")


def test_long_lists_are_read_and_written_piece_by_piece(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    documents = np.unique(rng.integers(0, 2**20, 5000)).tolist()
    lists = {"w": dict(zip(documents, rng.integers(1, 2**16, len(documents)).tolist(), strict=True))}
    whole = theirs(lists, [], total_docs=2**20)
    monkeypatch.setattr(messages, "_PIECE", 64)
    monkeypatch.setattr(messages, "_POSTINGS", 7)
    assert ours(lists, [], total_documents=2**20) == whole
    assert read(tmp_path / "a.ciff", whole)[1] == lists


def test_a_compressed_file_is_read_whatever_its_name(tmp_path):
    assert read(tmp_path / "a.ciff", gzip.compress(theirs(*TINY, total_docs=201)))[1:] == TINY


def test_what_protobuf_allows_and_nobody_writes_is_read(tmp_path):
    odd = [
        bytes([34, 6, 16, 2, 8, 0, 16, 3]),  # the value first, the gap of 0, the value again: the last one counts
        bytes([34, 4, 8, 5, 16, 1]),
        bytes([34, 6, 8, 1, 16, 4, 24, 9]),  # an unknown field
        b"\x10\x03\x0a\x03bee",  # number and term behind the postings
        b"\x2a\x02hi\x31" + bytes(8) + b"\x3d" + bytes(4),  # unknown fields of three other types
    ]
    body = b"".join(odd)
    data = delimited(PB["Header"](version=1, num_postings_lists=1, num_docs=0, total_docs=9))
    assert read(tmp_path / "a.ciff", data + bytes([len(body)]) + body)[1] == {"bee": {0: 3, 5: 1, 6: 4}}
    parsed = PB["PostingsList"].FromString(body)
    assert [(p.docid, p.tf) for p in parsed.postings] == [(0, 3), (5, 1), (1, 4)]


def test_a_file_cut_anywhere_says_so(tmp_path):
    data = theirs(*TINY, total_docs=201)
    for size in range(len(data)):
        with pytest.raises(StoreError, match=r"a\.ciff, before byte \d+: the .* is cut short, bytes missing: \d"):
            read(tmp_path / "a.ciff", data[:size])
    with pytest.raises(StoreError, match=r"record 3 of 3 cannot be read, the file is damaged or cut short \(Compr"):
        read(tmp_path / "a.ciff", gzip.compress(data)[:-12])


@settings(max_examples=300)
@given(at=st.integers(0, len(theirs(*TINY, total_docs=201)) - 1), byte=st.integers(0, 255))
def test_a_changed_byte_is_read_or_told_never_worse(at, byte, tmp_path_factory):
    data = bytearray(theirs(*TINY, total_docs=201))
    data[at], told = byte, ""
    try:
        read(tmp_path_factory.getbasetemp() / "changed.ciff", bytes(data))
    except StoreError as error:
        told = str(error)
    assert not told or "changed.ciff, before byte" in told


def posting(**fields):
    return PB["Posting"](**fields)


def a_list(*postings, term="bee", df=None):
    df = len(postings) if df is None else df
    return PB["PostingsList"](term=term, df=df, postings=[posting(docid=gap, tf=value) for gap, value in postings])


HEAD = PB["Header"](version=1, num_postings_lists=1, num_docs=2)
RECORDS = [PB["DocRecord"](docid=n, collection_docid=f"d{n}", doclength=1) for n in range(2)]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "before byte 0: the header is cut short, bytes missing: 1"),
        (b'{"id": "a", "contents": "', "the header is cut short"),
        (b'{"id": "1", "contents": "' + b"x" * 200, "the header .*this is no CIFF file, or it is damaged"),
        (b"\xff\xff\xff\xff\x7f", "the header is longer than a message can be: this is no CIFF file"),
        (delimited(PB["Header"](version=2)), "the header is of version 2; version 1 is read"),
        (delimited(PB["Header"]()), "the header is of version 0; version 1 is read"),
        (delimited(PB["Header"](version=1, num_docs=-1)), "announces a negative number of lists or documents"),
        (b"\x09\x08\x01\x28" + b"\x80" * 5 + b"\x20", "announces 1,099,511,627,776 documents; their numbers"),
        (delimited(HEAD, a_list((0, 1), (0, 1))), r"postings list 1 of 1 \('bee'\) has documents that do not ascend"),
        (delimited(HEAD, a_list((1, 1), (-1, 1))), r"\('bee'\) has documents that do not ascend"),
        (delimited(HEAD, a_list((-1, 1))), r"\('bee'\) has documents that do not ascend"),
        (delimited(HEAD, a_list((1, 1), (2, 1))), r"\('bee'\) names document 3, the file has 2 .*stored as gaps"),
        (delimited(HEAD, a_list((0, 1), df=2)), r"\('bee'\) announces 2 postings and holds 1"),
        (delimited(HEAD, a_list((0, 0))), r"\('bee'\) has a frequency of 0; expected 1 to 2,147,483,647"),
        (delimited(HEAD, a_list((0, -4))), r"\('bee'\) has a frequency of -4; expected 1 to 2,147,483,647"),
        (
            delimited(HEAD) + b"\x10\x0a\x03bee\x10\x01\x22\x07\x10" + b"\x80" * 5 + b"\x01",
            r"\('bee'\) has a frequency of 34359738368; expected 1 to",
        ),
        (delimited(HEAD, a_list((0, 1), term="")), r"postings list 1 of 1 has no term"),
        (delimited(HEAD) + b"\x04\x0a\x02\xff\xfe", r"has text that is not UTF-8 in field 1"),
        (delimited(HEAD) + b"\x02\x08\x05", r"has field 1 of another type"),
        (delimited(HEAD) + b"\x0c\x22\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00", "goes beyond its end"),
        (delimited(HEAD, a_list((0, 1)), RECORDS[1], RECORDS[0]), "document record 2 of 2 has number 0 after 1"),
        (delimited(HEAD, a_list((0, 1)), RECORDS[0], RECORDS[0]), "document record 2 of 2 has number 0 after 0"),
        (delimited(HEAD, a_list((0, 1)), PB["DocRecord"](docid=2)), "has number 2 after -1; they ascend, below .* 2"),
        (delimited(HEAD, a_list((0, 1)), PB["DocRecord"](doclength=-1)), "has length -1; expected 0 to 2,147,483,647"),
        (delimited(HEAD, a_list((0, 1))) + b"\x07\x18" + b"\x80" * 5 + b"\x20", "has length 1099511627776;"),
        (delimited(HEAD, a_list((0, 1)), *RECORDS, RECORDS[0]), "more bytes behind the last document record"),
    ],
)  # fmt: skip
def test_a_broken_file_says_what_and_where(data, told, tmp_path):
    with pytest.raises(StoreError, match=told) as error:
        read(tmp_path / "a.ciff", data)
    assert str(error.value).startswith(f"{tmp_path / 'a.ciff'}, before byte ")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(StoreError, match=r"none\.ciff cannot be opened: No such file"):
        ciff.Reader(tmp_path / "none.ciff")


def test_what_was_read_is_counted_in_stored_bytes(tmp_path):
    path, counts = tmp_path / "a.ciff.gz", []
    path.write_bytes(gzip.compress(theirs(*TINY, total_docs=201)))
    with ciff.Reader(path, on_bytes=counts.append) as reader:
        list(reader.postings())
        list(reader.documents())
    assert sum(counts) == path.stat().st_size


@given(
    rows=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))),
    cuts=st.sets(st.integers(1, 30)),
)
def test_a_spool_gives_back_what_it_took_sorted_by_key_and_other(rows, cuts, tmp_path_factory):
    starts = np.array([0, *sorted(cuts)])
    spool = Spool(tmp_path_factory.mktemp("spool"), starts)
    for row in rows:
        spool.add(*(np.array([value]) for value in row))
    found = [np.stack(spool.bucket(bucket), axis=1).tolist() for bucket in range(starts.size)]
    ends = [*starts[1:].tolist(), 31]
    keyed = [[row for row in rows if start <= row[0] < end] for start, end in zip(starts.tolist(), ends, strict=True)]
    assert [[row[:2] for row in each] for each in found] == [[list(r[:2]) for r in sorted(each)] for each in keyed]
    assert [sorted(each) for each in found] == [sorted(map(list, each)) for each in keyed]
