"""The tensors of an adapter at one site."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class State:
    """All tensors of one adapter at one site: what training moves, and what stays as `init` made it."""

    trainable: Mapping[str, Tensor]
    frozen: Mapping[str, Tensor] = field(default_factory=dict)
    derived: Mapping[str, Tensor] = field(default_factory=dict)
    """Frozen too, and a function of the base weight alone: not saved, but made anew from the base."""

    def __getitem__(self, name: str) -> Tensor:
        for group in (self.trainable, self.frozen):
            if (tensor := group.get(name)) is not None:
                return tensor
        return self.derived[name]

    def tensors(self) -> list[Tensor]:
        """All tensors, in the order that `with_tensors` takes them."""
        return [t for group in (self.trainable, self.frozen, self.derived) for t in group.values() if t is not None]

    def with_tensors(self, tensors: Iterable[Tensor]) -> State:
        """The same names with these tensors."""
        given = iter(tensors)
        groups = (self.trainable, self.frozen, self.derived)
        return State(*({key: next(given) for key, t in group.items() if t is not None} for group in groups))
