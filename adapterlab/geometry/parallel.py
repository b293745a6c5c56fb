"""Threads that measure and project layers side by side.

Linear algebra of matrices of the usual sizes gains nothing from several threads of its own, so each thread takes a layer.

>>> with threads({"up": (4, 4)}) as pool:
...     list(pool.map(len, ["a", "bc"]))
[1, 2]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

from adapterlab.surgery.init.threads import one_thread

MEMORY = 4 * 2**30
"""Bytes that the layers in work may take together, about."""
COPIES = 16
"""Copies of a weight in float32 that measuring and projecting it takes, about."""


@contextmanager
def threads(shapes: Mapping[str, tuple[int, int]]) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool with as many threads as PyTorch uses, or fewer if layers are large. An error drops the work that waits.

    Args:
        shapes: `(out, in)` of every layer by path.
    """
    largest = max((rows * columns for rows, columns in shapes.values()), default=1)
    pool = ThreadPoolExecutor(max(1, min(torch.get_num_threads(), MEMORY // (4 * COPIES * largest))))
    with one_thread(), threadpool_limits(1):  # torch's linear algebra, and that of NumPy and SciPy
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)
