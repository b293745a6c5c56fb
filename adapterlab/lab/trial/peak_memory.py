"""The most memory that a stretch of work held, over what was held when it began."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Callable[[], int]]:
    """Gives a function that says how many bytes the work so far has held at most; 0 where that cannot be told.

    On a GPU this is what torch allocated; on a CPU, the resident memory of the process, which Linux with glibc alone can
    reset: what was let go before, but not handed back, must not pass for free memory.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield lambda: torch.cuda.max_memory_allocated(device) - before
        return
    try:
        ctypes.CDLL(None).malloc_trim(0)  # hands back what was let go
        _RESET.write_text("5")  # sets the high-water mark to what is resident now
        before = _resident("VmRSS")
    except (OSError, AttributeError):
        yield lambda: 0
        return
    yield lambda: max(0, _resident("VmHWM") - before)


def _resident(key: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024
