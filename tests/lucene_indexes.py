"""What the tests of Lucene share."""

from __future__ import annotations

import importlib.util

import pytest


def needs_lucene():
    """Skips a test where pyserini is not installed; where it is, a missing Java is a failure."""
    if importlib.util.find_spec("pyserini") is None:
        pytest.skip('needs pip install "plait[lucene]"')
