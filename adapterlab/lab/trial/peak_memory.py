"""Peak memory of a block of code, beyond the memory in use before it.

>>> with peak_memory(torch.device("cpu")) as peak:
...     block = torch.ones(4_000_000)
>>> peak() == 0 or peak() > 8_000_000  # 0 where it cannot be measured
True
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Callable[[], int]]:
    """Measure the peak memory of the work in a `with` block.

    On a GPU this is the memory that torch allocated; on a CPU, the resident memory of the process. Only Linux with glibc
    can reset that: memory that was freed, but not returned to the system, must not count as available.

    Args:
        device: Device that the work runs on.

    Yields:
        A function that returns the peak so far in bytes; 0 where it cannot be measured.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield lambda: torch.cuda.max_memory_allocated(device) - before
        return
    try:
        ctypes.CDLL(None).malloc_trim(0)  # returns freed memory to the system
        _RESET.write_text("5")  # resets the high-water mark to the present resident memory
        before = _resident("VmRSS")
    except (OSError, AttributeError):
        yield lambda: 0
        return
    yield lambda: max(0, _resident("VmHWM") - before)


def _resident(key: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024
