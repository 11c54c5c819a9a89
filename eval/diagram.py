"""A calibration's reliability diagram as one small HTML page: no script, no link, no file beside it."""

from __future__ import annotations

from html import escape

from .calibrating import Calibrated, Reliability
from .pictures import reliability_svg

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }
svg { width: 100%; max-width: 720px; height: auto; display: block; } svg text { font-size: 12px; fill: currentColor; }
svg .grid { stroke: #8884; fill: none; } svg .axis { stroke: #888; fill: none; } svg .s0 circle { fill: #1f6fb2; }
"""


def reliability_page(found: Calibrated) -> str:
    """Returns the page: where probabilities hold, dots lie on the diagonal."""
    parts = [("The first 10 hits of each query", found.near), ("The first 100", found.all)]
    body = "".join(f"<h2>{heading}</h2>\n{_part(part)}" for heading, part in parts)
    about = f"{found.calibration.kind}, {found.calibration.source}. Cross-validated over queries."
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>plait tune: calibration</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>Calibration</h1>\n<p>{escape(about)}</p>\n{body}</body>\n</html>\n"
    )


def _part(part: Reliability) -> str:
    told = (
        f"Expected calibration error {part.error:.4f}; Brier score {part.brier:.4f}, of the mean alone "
        f"{part.base:.4f}; {part.hits:,} hits."
    )
    return f"{reliability_svg(part.bins)}\n<p>{told}</p>\n"
