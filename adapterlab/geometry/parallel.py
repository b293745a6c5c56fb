"""Threads that measure and project layers side by side.

Linear algebra of matrices of the usual sizes gains nothing from several threads of its own, so each core takes a layer.

>>> with threads({"up": (4, 4)}) as pool:
...     list(pool.map(len, ["a", "bc"]))
[1, 2]
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

from adapterlab.surgery.init.threads import one_thread

MEMORY = 4 * 2**30
"""Bytes that the layers in work may take together, about."""
COPIES = 16
"""Copies of a weight in float32 that measuring and projecting it takes, about."""


@contextmanager
def threads(shapes: Mapping[str, tuple[int, int]]) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool with a thread for each core, or fewer if layers are large. Work that waits is dropped at an error.

    Args:
        shapes: `(out, in)` of every layer by path.
    """
    largest = max((rows * columns for rows, columns in shapes.values()), default=1)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pool = ThreadPoolExecutor(max(1, min(cores, MEMORY // (4 * COPIES * largest))))
    with one_thread(), threadpool_limits(1):  # torch's linear algebra, and that of NumPy and SciPy
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)
