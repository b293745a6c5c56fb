"""The tensors of an adapter at one site.

>>> import torch
>>> state = State({"gain": torch.ones(3)}, frozen={"basis": torch.eye(3)})
>>> state["basis"].shape, len(state.tensors())
(torch.Size([3, 3]), 2)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class State:
    """All tensors of one adapter at one site, in three groups. `state[name]` looks a tensor up in all of them."""

    trainable: Mapping[str, Tensor]
    """Tensors that training updates."""
    frozen: Mapping[str, Tensor] = field(default_factory=dict)
    """Tensors that stay as `init` made them, and are saved."""
    derived: Mapping[str, Tensor] = field(default_factory=dict)
    """Frozen tensors that depend only on the base weight: not saved, but recomputed from it on loading."""

    def __getitem__(self, name: str) -> Tensor:
        for group in (self.trainable, self.frozen):
            if (tensor := group.get(name)) is not None:
                return tensor
        return self.derived[name]

    def tensors(self) -> list[Tensor]:
        """Return all tensors, in the order that `with_tensors` expects."""
        return [t for group in (self.trainable, self.frozen, self.derived) for t in group.values() if t is not None]

    def with_tensors(self, tensors: Iterable[Tensor]) -> State:
        """Return a state with the same names and other tensors.

        Args:
            tensors: One tensor for each of `self.tensors()`, in that order.
        """
        given = iter(tensors)
        groups = (self.trainable, self.frozen, self.derived)
        return State(*({key: next(given) for key, t in group.items() if t is not None} for group in groups))
