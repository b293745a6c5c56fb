"""Refuse changes of some tensors within a `with` block: in-place operations on them, on views, on `.data`, and NumPy writes.

`init` runs in such a block, since it gets the base's own weights, which other adapters and contestants share.

>>> import torch
>>> weight = torch.ones(2, 2)
>>> with read_only([weight], "mine"):
...     weight.T.data.mul_(1.05)
Traceback (most recent call last):
    ...
adapterlab.errors.AdapterlabError: mine changes the base weight in place (mul_), ...: work on a copy, weight.clone()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from adapterlab.errors import AdapterlabError


@contextmanager
def read_only(tensors: Iterable[Tensor], method: str) -> Iterator[None]:
    """Raise an error at any operation in a `with` block that writes to the memory of some tensors.

    Args:
        tensors: The tensors that must keep their values.
        method: Name of the method that runs, for the error message.

    Yields:
        Nothing.

    Raises:
        AdapterlabError: An operation writes to one of them.
    """
    memory = {address for tensor in tensors for address in _memory(tensor)}
    try:
        with _Operations(memory, method), _Arrays(memory):
            yield
    except ValueError as error:
        if "read-only" not in str(error):  # NumPy's message for an array that may not be written
            raise
        raise _refusal(method, "through NumPy") from error


class _Operations(TorchDispatchMode):
    """Refuses operators that write to protected memory; views and `.data` share the memory of their tensor."""

    def __init__(self, memory: set[int], method: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._memory, self._method = memory, method

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        for i, name in _written(func):
            for leaf in tree_leaves(args[i] if i < len(args) else given.get(name)):
                if isinstance(leaf, Tensor) and not self._memory.isdisjoint(_memory(leaf)):
                    raise _refusal(self._method, func._schema.name.rpartition("::")[2])
        return func(*args, **given)


class _Arrays(TorchFunctionMode):
    """Gives NumPy arrays of protected memory that can be read alone."""

    def __init__(self, memory: set[int]) -> None:
        super().__init__()
        self._memory = memory

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (Tensor.numpy, Tensor.__array__) and not self._memory.isdisjoint(_memory(args[0])):
            result.flags.writeable = False
        return result


@cache
def _written(func: Any) -> tuple[tuple[int, str], ...]:
    """Return the index and the name of each argument that an operator writes to."""
    arguments = enumerate(func._schema.arguments)
    return tuple((i, each.name) for i, each in arguments if each.alias_info is not None and each.alias_info.is_write)


def _refusal(method: str, how: str) -> AdapterlabError:
    return AdapterlabError(
        f"{method} changes the base weight in place ({how}), but init may only read it, since other adapters share it: work "
        "on a copy, weight.clone()"
    )


def _memory(tensor: Tensor) -> set[int]:
    """Return the addresses of the memory that holds a tensor's values; none for one without values."""
    if hasattr(tensor, "__tensor_flatten__"):
        parts: Sequence[str] = tensor.__tensor_flatten__()[0]
        return set().union(*(_memory(getattr(tensor, part)) for part in parts))
    try:
        return {tensor.untyped_storage().data_ptr()} - {0}
    except (NotImplementedError, RuntimeError):  # a wrapper without memory of its own, as under torch.func
        return set()
