"""What the tests share: small real encoders, and indexes made with them."""

from __future__ import annotations

import signal

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from plait.encoders.contract import Identity
from scipy.sparse import csr_matrix

from . import suites

settings.register_profile("plait", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("plait")


def pytest_configure(config):
    """Tells of packages that the chosen tests need and that are missing, and lets Ctrl-C through.

    A shell has what it starts in the background ignore Ctrl-C, and a test that sends it would wait for ever.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if missing := suites.missing(config.option.markexpr):
        raise pytest.UsageError(
            f"the tests marked torch need {' and '.join(missing)}: scripts/test --torch installs it"
        )


def pytest_ignore_collect(collection_path, config):
    """Leaves out files in which every test needs torch, where none of them would be run."""
    return suites.leaves_out(collection_path, config.option.markexpr) or None


class LetterDense:
    """A tiny real dense encoder: normalised counts of letters. Its vectors can be worked out by hand."""

    identity = Identity("letters", "1", "characters", "count+l2", 0, 26)

    def encode_documents(self, texts):
        counts = np.array([[text.lower().count(chr(97 + i)) for i in range(26)] for text in texts], np.float32)
        counts = counts.reshape(len(texts), 26)
        norms = np.linalg.norm(counts, axis=1, keepdims=True)
        return np.ascontiguousarray(counts / np.where(norms > 0, norms, 1))

    encode_queries = encode_documents


class LengthSparse:
    """A tiny real learned-sparse encoder: a term for each word's length, and, as expansion, for its length plus one."""

    identity = Identity("lengths", "1", "words", "length", 0, 64, "idf")

    def encode_documents(self, texts):
        rows = np.zeros((len(texts), 64), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.split():
                row[min(len(word), 62)] += 1
                row[min(len(word), 62) + 1] += 0.5
        return csr_matrix(rows)

    def encode_queries(self, texts):
        rows = np.zeros((len(texts), 64), np.float32)
        for row, text in zip(rows, texts, strict=True):
            row[[min(len(word), 62) for word in text.split()]] = 1
        return csr_matrix(rows)

    def term_names(self, text):
        return {min(len(word), 62): f"length-{len(word)}" for word in text.split()}


@pytest.fixture
def small_encoders():
    """Encoders that need no model: {"dense": ..., "learned": ...} for Retriever.create and open."""
    return {"dense": LetterDense(), "learned": LengthSparse()}
