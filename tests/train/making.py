"""Small training sets for tests."""

from __future__ import annotations

import json

import numpy as np
from plait.train.pairs import TrainingSet

ANSWERS = [
    "Snow falls in winter when the air is cold enough.",
    "Bees make honey from the nectar of flowers.",
    "A glacier is a river of ice that moves slowly.",
    "The moon moves the water of the seas twice a day.",
    "Ships carry most of the goods that countries trade.",
    "Bread rises because yeast makes gas from sugar.",
]


def training_set(documents, pairs, *, negatives=None):
    """Returns a set from texts and (query, position) pairs."""
    return TrainingSet(
        list(documents),
        [query for query, _ in pairs],
        np.array([position for _, position in pairs], np.int64),
        np.zeros(len(pairs), np.int32),
        ("made",),
        negatives,
    )


def write_lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path
