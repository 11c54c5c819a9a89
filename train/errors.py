"""What can go wrong for a person who trains."""

from __future__ import annotations


class TrainError(ValueError):
    """Training cannot begin or go on with what was given; the message says what to change."""
