"""The model without its topmost adapter, as a module that shares the model's weights.

>>> from contextlib import nullcontext
>>> model = nn.Linear(2, 2)
>>> reference = reference_model(model, nullcontext)
>>> reference is model, reference.weight is model.weight
(False, True)
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from types import MethodType

from torch import nn


def reference_model(model: nn.Module, disabled: Callable[[], AbstractContextManager[None]]) -> nn.Module:
    """Return a module with the class, the submodules and the parameters of a model, and hooks of its own.

    Args:
        model: The model.
        disabled: Returns a context manager; the module's calls run within it, in evaluation mode.
    """
    reference = copy.copy(model)
    state = vars(reference)
    for name, value in state.items():
        if isinstance(value, OrderedDict) and "hooks" in name:
            state[name] = value.copy()  # a hook that is added to the copy must not run on the model
        if isinstance(value, MethodType) and value.__self__ is model:
            state[name] = MethodType(value.__func__, reference)
    call = _Call(disabled)
    # Hooks, since TRL replaces `forward` on the instance.
    reference.register_forward_pre_hook(call.enter)
    reference.register_forward_hook(call.leave, always_call=True)
    return reference


class _Call:
    """The two ends of a call of the reference.

    Args:
        disabled: Returns the context manager to call within.
    """

    def __init__(self, disabled: Callable[[], AbstractContextManager[None]]) -> None:
        self._disabled, self._stack = disabled, ExitStack()

    def enter(self, module: nn.Module, args: object) -> None:
        self._stack.enter_context(self._disabled())
        for part in [part for part in module.modules() if part.training]:
            part.training = False
            self._stack.callback(setattr, part, "training", True)

    def leave(self, module: nn.Module, args: object, output: object) -> None:
        self._stack.close()
