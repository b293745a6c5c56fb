"""Number of threads of a decomposition.

>>> with one_thread():
...     torch.get_num_threads()
1
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

LARGE = 2048
"""Smaller side of a matrix from which several threads decompose it faster than one."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Run linear algebra in one thread for the duration of a `with` block.

    The threads of LAPACK wait for each other in a loop at every small step. On a core that another process uses as well, a
    decomposition of a 1536 x 576 matrix was 50 times slower with two threads than with one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
