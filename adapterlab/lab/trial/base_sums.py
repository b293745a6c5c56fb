"""Checksums of a model's weights, to notice a contestant that changed the base which all contestants share.

>>> model = nn.Linear(3, 2)
>>> before = checksums(model)
>>> with torch.no_grad():
...     model.weight[0] *= 1.05
>>> changed(model, before)
['weight']
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import torch
from torch import Tensor, nn

WIDTH = 4096
"""Columns of the table that a tensor's bytes are summed in, eight bytes in each entry."""


def checksums(model: nn.Module) -> dict[str, int]:
    """Return a checksum of each parameter's bits, in two passes over the memory.

    The bits are read as a table of 64-bit integers, whose row and column sums are added up with fixed random factors: other
    values and other places of the same values give other checksums.

    Args:
        model: The model, without an adapter.
    """
    found = {path: _sums(parameter.detach()) for path, parameter in model.named_parameters() if not parameter.is_meta}
    # One transfer for all tensors of a device.
    devices = {sums.device for sums in found.values()}
    for device in devices:
        paths = [path for path, sums in found.items() if sums.device == device]
        values = torch.stack([found[path] for path in paths]).cpu()
        found |= dict(zip(paths, values, strict=True))
    return {path: int(value) for path, value in found.items()}


def changed(model: nn.Module, before: Mapping[str, int]) -> Sequence[str]:
    """Return the paths of the parameters whose bits differ from those of earlier checksums.

    Args:
        model: The model, without an adapter.
        before: The checksums.
    """
    now = checksums(model)
    return [path for path in {**before, **now} if before.get(path) != now.get(path)]


def _sums(tensor: Tensor) -> Tensor:
    """Return the checksum of a tensor, a scalar int64 that wraps around."""
    data = tensor.contiguous().flatten().view(torch.uint8)
    whole = len(data) // (8 * WIDTH) * 8 * WIDTH
    total = _mixed(data[whole:].long())
    if whole:
        table = data[:whole].view(torch.int64).view(-1, WIDTH)
        total = total + _mixed(table.sum(0)) + 31 * _mixed(table.sum(1))
    return total


def _mixed(numbers: Tensor) -> Tensor:
    return (numbers * _factors(len(numbers), numbers.device)).sum()


@cache
def _factors(count: int, device: torch.device) -> Tensor:
    drawn = torch.randint(-(2**62), 2**62, (count,), generator=torch.Generator().manual_seed(0))
    return drawn.to(device) | 1
