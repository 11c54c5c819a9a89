"""Linear projections that make vectors shorter for a first look; the full vectors decide afterwards.

LeanVec (Tepper et al., "LeanVec: Searching vectors faster by making them fit") looks for two matrices A and B such that
(A q) . (B x) stays close to q . x for the queries q and documents x that occur. Without sample queries both are the
principal directions of the documents (`principal`, LeanVec-ID). With sample queries the error has a closed-form minimum
over all pairs of matrices (`query_aware`; it is what "LeanVec-Sphering" of the same authors' GleanVec computes), so the
alternating search that LeanVec-OOD needs for orthonormal rows is not needed here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# The queries' spread is mixed with so much of the documents' own: a few hundred queries say little about most
# directions, and with less of it even queries like the sample lost more than by `principal`.
SHRINKAGE = 1.0
_CHUNK = 16_384


class Projection(NamedTuple):
    """What queries and documents are multiplied with: float32 (reduced, dim) each."""

    queries: NDArray[np.float32]
    documents: NDArray[np.float32]

    def of_documents(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns documents float32 (n, dim) as float32 (n, reduced)."""
        return np.ascontiguousarray(vectors @ self.documents.T)

    def of_query(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns a query float32 (dim,) as float32 (reduced,)."""
        return self.queries @ query


def second_moment(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns the mean of x x' over the rows of float32 (n, dim), as float64 (dim, dim); zeros for no rows."""
    dim = vectors.shape[1]
    total = np.zeros((dim, dim))
    for start in range(0, len(vectors), _CHUNK):
        chunk = np.asarray(vectors[start : start + _CHUNK])
        total += chunk.T @ chunk  # float32 inside a chunk, float64 between chunks
    return total / max(len(vectors), 1)


def principal(vectors: NDArray[np.float32], reduced: int) -> Projection:
    """Returns the projection on the principal directions of float32 (n, dim), not centred; its rows are orthonormal."""
    directions = _leading(second_moment(vectors), reduced)
    return _made(directions, directions)


def query_aware(vectors: NDArray[np.float32], queries: NDArray[np.float32], reduced: int) -> Projection:
    """Returns the projection with the least squared error of inner products between queries and vectors.

    With W the square root of the queries' second moment, the error of a pair (A, B) is that of W A'B x as an
    approximation of W x. The best of rank `reduced` projects W x on its principal directions P: B = P W, A = P / W.
    The rows of A and B are orthonormal to each other, not among themselves.

    Args:
        vectors: documents float32 (n, dim).
        queries: sample queries float32 (m, dim), like those to come.
        reduced: dimensions to keep, 1 to dim.
    """
    documents, asked = second_moment(vectors), second_moment(queries)
    dim = len(documents)
    mixed = _normalised(asked) + SHRINKAGE * _normalised(documents) + 1e-6 * np.eye(dim) / dim
    values, axes = np.linalg.eigh(mixed)
    roots = np.sqrt(values)
    spread, back = (axes * roots) @ axes.T, (axes / roots) @ axes.T
    directions = _leading(spread @ documents @ spread, reduced)
    return _made(directions @ back, directions @ spread)


def loss(projection: Projection, vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> float:
    """Returns the squared error of projected inner products, summed over all pairs, by the squared inner products."""
    documents, asked = second_moment(vectors), second_moment(queries)
    error = projection.queries.T.astype(np.float64) @ projection.documents - np.eye(len(documents))
    lost = np.einsum("ij,ij->", asked @ error @ documents, error)
    return float(lost / np.einsum("ij,ij->", asked, documents))


def _leading(moment: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Returns the eigenvectors of the largest eigenvalues as rows, the largest first."""
    if not 1 <= count <= len(moment):
        raise ValueError(f"a projection keeps 1 to {len(moment)} dimensions, not {count}")
    return np.linalg.eigh(moment)[1][:, ::-1][:, :count].T


def _normalised(moment: NDArray[np.float64]) -> NDArray[np.float64]:
    return moment / (np.trace(moment) or 1.0)


def _made(queries: NDArray[np.float64], documents: NDArray[np.float64]) -> Projection:
    return Projection(np.ascontiguousarray(queries, np.float32), np.ascontiguousarray(documents, np.float32))
