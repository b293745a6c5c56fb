"""Arguments of a call of a model, as hooks read and change them.

>>> class Model(nn.Module):
...     def forward(self, input_ids, attention_mask=None): ...
>>> call = Arguments(Model(), (torch.zeros(2, 5, dtype=torch.long),), {})
>>> call.size, call.tensor("attention_mask")
((2, 5), None)
"""

from __future__ import annotations

import inspect
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from transformers.cache_utils import StaticLayer

Args: TypeAlias = tuple[Any, ...]
"""Positional arguments that a forward hook receives."""
Kwargs: TypeAlias = dict[str, Any]
"""Keyword arguments that a forward hook receives."""
Output: TypeAlias = Tensor | tuple[Any, ...]
"""Output of a block or an attention that a forward hook receives: a tensor, or a tuple that starts with it."""


class Arguments:
    """Arguments of a call by name, whether they were passed by position or by keyword.

    Args:
        module: The called module; its `forward` gives the names.
        args: Positional arguments of the call.
        kwargs: Keyword arguments of the call.
    """

    def __init__(self, module: nn.Module, args: Args, kwargs: Kwargs) -> None:
        self.names = list(inspect.signature(type(module).forward).parameters)[1:]
        self.values: Kwargs = dict(zip(self.names, args, strict=False)) | kwargs

    def __getitem__(self, name: str) -> object:
        return self.values.get(name)

    def __setitem__(self, name: str, value: object) -> None:
        self.values[name] = value

    def tensor(self, name: str) -> Tensor | None:
        """Return an argument if it was given and is a tensor, else None.

        Args:
            name: Name of the argument.
        """
        value = self.values.get(name)
        return value if isinstance(value, Tensor) else None

    @property
    def past(self) -> int:
        """Number of positions in the key-value cache before the call."""
        cache = self.values.get("past_key_values")
        return 0 if cache is None else int(cache.get_seq_length())

    @property
    def room(self) -> int | None:
        """Number of positions for which a static key-value cache has room in all; None for a cache that grows."""
        cache = self.values.get("past_key_values")
        limits = [layer.max_cache_len for layer in getattr(cache, "layers", ()) if isinstance(layer, StaticLayer)]
        return max(limits) if limits else None

    @property
    def size(self) -> tuple[int, int]:
        """Number of sequences, and of tokens in each."""
        tokens = self._tokens()
        return tokens.shape[0], tokens.shape[1]

    @property
    def device(self) -> torch.device:
        """Device of the tokens."""
        return self._tokens().device

    @property
    def positions(self) -> Tensor | None:
        """Positions of the tokens: as given, or counted by a mask of two dimensions; None if neither is given.

        A model that is given a mask alone counts padding on the left too, which its own attention need not notice. Keys
        without a position, which adapters add, make the difference.
        """
        given, mask = self.tensor("position_ids"), self.tensor("attention_mask")
        if given is not None or mask is None or mask.ndim != 2 or "position_ids" not in self.names:
            return given
        return (mask.long().cumsum(1) - 1).clamp(min=0)[:, -self.size[1] :]

    def _tokens(self) -> Tensor:
        ids = self.tensor("input_ids")
        tokens: Tensor = self.values["inputs_embeds"] if ids is None else ids
        return tokens

    def as_hook_result(self) -> tuple[Args, Kwargs]:
        """Return the arguments as a forward pre-hook must return them."""
        return (), self.values
