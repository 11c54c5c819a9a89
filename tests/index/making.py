"""Small indexes for the tests of the store."""

from __future__ import annotations

import os

import numpy as np
from plait.index import Layout, Writer, create, database
from plait.retriever import Document
from scipy.sparse import csr_matrix

DIM = 4
COLUMNS = 50


def vectors(seed, count):
    """Returns random (sparse, dense) of `count` documents; the same seed gives the same vectors."""
    rng = np.random.default_rng(seed)
    learned = csr_matrix(rng.random((count, COLUMNS)) * (rng.random((count, COLUMNS)) < 0.2), dtype=np.float32)
    lexical = csr_matrix(rng.integers(0, 3, (count, COLUMNS)), dtype=np.float32)
    return {"learned": learned, "lexical": lexical}, rng.normal(size=(count, DIM)).astype(np.float32)


def documents(ids, text="text"):
    """Returns a document for each id."""
    return [Document(id=i, text=f"{text} of {i}") for i in ids]


def add(writer, ids, seed=0, text="text"):
    """Adds documents with random vectors."""
    sparse, dense = vectors(seed, len(ids))
    writer.add(documents(ids, text), sparse, dense)


def made(folder, *batches):
    """Returns a new index holding the batches of ids, a commit each."""
    create(folder, Layout(dim=DIM, window=16), {})
    writer = Writer(folder)
    for seed, ids in enumerate(batches):
        add(writer, ids, seed)
        writer.commit()
    writer.close()
    return folder


def without_syncing(patch):
    """Makes commits quick. A killed process leaves the same behind: only the loss of power does not."""
    real = database.open_writer

    def unsafe(folder):
        connection = real(folder)
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    patch.setattr(database, "open_writer", unsafe)
    patch.setattr(os, "fsync", lambda _handle: None)
