"""Optional packages: imported where they are used, and named with their pip extra when they are not there."""

from __future__ import annotations

import importlib
from typing import Any

from .contract import EncoderError

# torch and transformers are in "train" too: who trains says so.
EXTRAS = {
    "onnx": "export",
    "safetensors": "export",
    "ml_dtypes": "export",
    "torch": "torch",
    "transformers": "torch",
    "sentence_transformers": "torch",
    "onnxscript": "torch",
}


def require(module: str, purpose: str, extra: str | None = None) -> Any:
    """Returns an imported module.

    Args:
        module: its name.
        purpose: what it is for, as the beginning of a sentence.
        extra: the pip extra to name; where None, that of `EXTRAS`.

    Raises:
        EncoderError: it cannot be imported; the message names the pip command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        extra = extra or EXTRAS.get(package)
        target = f'"plait[{extra}]"' if extra else package
        raise EncoderError(f"{purpose} needs the package {package} ({error}): pip install {target}") from error
