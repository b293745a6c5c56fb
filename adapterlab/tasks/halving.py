"""Work done in pieces as large as memory lets them be."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")
_SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory")


def out_of_memory(error: BaseException) -> bool:
    """Whether the error says that memory was not enough: a GPU's, or the allocator's on a CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def halving(work: Callable[[int], T], size: int) -> tuple[T, int]:
    """What `work(size)` gives, and the size that it took: half as large after each time that memory was not enough.

    Raises what `work(1)` raises where not even that fits.
    """
    while True:
        try:
            return work(size), size
        except Exception as error:
            if not out_of_memory(error) or size == 1:
                raise
        # Out of the handler, where the error would keep what the failed work had allocated.
        size //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
