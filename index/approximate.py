"""What a search leaves out when less than exactness is asked for.

`exactness` e, above 0 and at most 1: the query's lightest terms are left out as long as they could add no more than
1 - e of the highest possible score, and windows whose bound, times e, does not reach the k-th score found are not
visited (the terms are those of "term pruning" and of "heap factor" in the literature). The documents that come back
carry their true scores; documents can be missing. benchmarks/ tell how many.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .postings import Postings


def heavier(
    p: Postings, terms: NDArray[np.uint32], weights: NDArray[np.uint32], exactness: float
) -> NDArray[np.intp]:
    """Returns the indices, ascending, of the terms that a search of this exactness keeps; at least one."""
    bounds = weights.astype(np.int64) * largest(p, terms)
    order = np.argsort(bounds, kind="stable")
    dropped = int(np.searchsorted(np.cumsum(bounds[order]), (1 - exactness) * bounds.sum(), side="right"))
    return np.sort(order[min(dropped, terms.size - 1) :])


def largest(p: Postings, terms: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Returns the largest impact of each term, int64; 0 where no document holds it."""
    found = np.zeros(terms.size, np.int64)
    for i, row in enumerate(np.searchsorted(p.terms, terms).tolist()):
        if row < p.terms.size and p.terms[row] == terms[i]:
            found[i] = p.cell_max[p.cells[row] : p.cells[row + 1]].max()
    return found
