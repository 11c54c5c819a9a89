from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plait.encoders import load_dense, load_learned
from plait.encoders.build import build

GOLDEN = Path(__file__).parent.parent / "golden"
HEADS = {
    "bert-pooled": "dense",
    "distilbert-pooled": "dense",
    "bert-masked": "learned",
    "distilbert-masked": "learned",
}
LOAD = {"dense": load_dense, "learned": load_learned}
Built = Callable[..., Path]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return json.loads((GOLDEN / "texts.json").read_text())


@pytest.fixture(scope="session")
def golden() -> Path:
    return GOLDEN


@pytest.fixture(scope="session")
def reference() -> Callable[[str], np.ndarray]:
    """The recorded vectors of a checkpoint; special tokens are no terms, so their columns are cleared."""

    def read(name: str, specials: list[int] | None = None) -> np.ndarray:
        found = np.load(GOLDEN / f"{name}.npz")["reference"]
        found[:, specials or []] = 0
        return found

    return read


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Builds a tiny checkpoint once per precision and returns its folder."""
    made: dict[tuple[str, str], Path] = {}

    def make(name: str, precision: str = "fp32") -> Path:
        if (name, precision) not in made:
            folder = tmp_path_factory.mktemp("built") / f"{name}-{precision}"
            build(GOLDEN / name, folder, head=HEADS[name], precision=precision)
            made[name, precision] = folder
        return made[name, precision]

    return make


@pytest.fixture(scope="session")
def encoder(built: Built) -> Callable[..., Any]:
    """Returns an encoder over a tiny checkpoint."""

    def load(name: str, precision: str = "fp32", **options: Any) -> Any:
        return LOAD[HEADS[name]](built(name, precision), **options)

    return load
