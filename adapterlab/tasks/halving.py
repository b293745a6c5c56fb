"""Retry work with half the batch size when memory runs out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")
_MESSAGES = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory")


def out_of_memory(error: BaseException) -> bool:
    """Return True if an error means that the memory of a GPU or of the machine ran out.

    Args:
        error: The exception that was caught. Besides `MemoryError` and torch's own type, a `RuntimeError` counts if its
            message says so: that is how torch's CPU allocator reports it.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error).lower() for message in _MESSAGES)


def halving(work: Callable[[int], T], size: int) -> tuple[T, int]:
    """Call `work(size)`, and halve the size each time that memory runs out.

    Args:
        work: Function of a batch size. After a failure it is called again from the start.
        size: First batch size, at least 1.

    Returns:
        The result of `work`, and the size that succeeded.

    Raises:
        Exception: Any error of `work` that is not about memory, and the error of `work(1)`.

    Example:
        >>> def work(size):
        ...     if size > 2:
        ...         raise MemoryError
        ...     return "done"
        >>> halving(work, 8)
        ('done', 2)
    """
    while True:
        try:
            return work(size), size
        except Exception as error:
            if not out_of_memory(error) or size == 1:
                raise
        # Outside the handler: inside it the exception would keep the memory of the failed attempt alive.
        size //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
