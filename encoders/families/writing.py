"""What plait's own ONNX writer, which needs no torch, can make of a recipe."""

from __future__ import annotations

from .recipes import LOGITS, MASKED, Recipe, SparseRow


def written(recipe: Recipe) -> bool:
    """Tells whether plait's own writer has a graph for a recipe; of the model's layers it may still refuse some."""
    sparse, dense, prompts = recipe.sparse, recipe.dense, recipe.prompts
    if (sparse is None) == (dense is None):
        return False
    if dense is not None:
        cut = prompts.query_end or prompts.document_end or dense.layers or dense.projected
        return dense.pooling in ("mean", "cls", "max") and not cut
    return sparse is not None and recipe.model == MASKED and _pooled_late(sparse)


def _pooled_late(row: SparseRow) -> bool:
    activated = row.head == LOGITS and row.pooling == "max" and row.activation in ("log1p", "log1p_log1p")
    return activated and not (row.literal or row.echo)
