"""Freeze parameters for as long as any adapter needs it, in whatever order adapters are detached.

>>> parameter = nn.Linear(1, 1).weight
>>> first, second = freeze([parameter]), freeze([parameter])
>>> release(first)
>>> parameter.requires_grad
False
>>> release(second)
>>> parameter.requires_grad
True
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn
from torch.utils.weak import WeakIdKeyDictionary

Frozen = dict[nn.Parameter, bool]
"""Frozen parameters, each with whether it trained before any adapter was attached."""
_holds = WeakIdKeyDictionary()
"""By parameter, whether it trained before, and the number of adapters that hold it frozen."""


def freeze(parameters: Iterable[nn.Parameter]) -> Frozen:
    """Freeze parameters until `release` has been called as often.

    Args:
        parameters: The parameters.

    Returns:
        What `release` takes.
    """
    frozen: Frozen = {}
    for parameter in parameters:
        if not parameter.requires_grad and parameter not in _holds:
            # Not listed: a weak reference would keep `model.to` from moving a tensor subclass, such as torchao's.
            frozen[parameter] = False
            continue
        trained, holders = _holds.get(parameter, (parameter.requires_grad, 0))
        _holds[parameter] = trained, holders + 1
        parameter.requires_grad_(False)
        frozen[parameter] = trained
    return frozen


def release(frozen: Mapping[nn.Parameter, bool]) -> None:
    """Undo `freeze`, for each parameter that no other adapter holds.

    Args:
        frozen: The result of `freeze`.
    """
    for parameter, trained in frozen.items():
        _, holders = _holds.get(parameter, (trained, 1))  # the copy of a model has parameters that are not listed
        if holders > 1:
            _holds[parameter] = trained, holders - 1
        else:
            _holds.pop(parameter, None)
            parameter.requires_grad_(trained)
