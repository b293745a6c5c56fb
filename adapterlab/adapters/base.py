"""What an adapter is: a frozen dataclass of hyperparameters, a claim, and two pure functions.

A new method is one file: subclass `LinearAdapter`, give it a `name` and a `claim`, write `init` and `weight`. Everything
else (attaching, devices, dtypes, merging, strength, saving) is the work of `adapterlab.surgery`.
"""

from __future__ import annotations

import dataclasses
from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

import torch
from torch import Tensor

from adapterlab.adapters.peft_layout import PeftLayout, PeftSite
from adapterlab.adapters.state import State


class Theme(StrEnum):
    """The themes of the argument map."""

    SVD = "svd"
    ORTHOGONAL = "orthogonal"
    DECOUPLED = "decoupled"
    GAIN = "gain"
    RANK = "rank"
    FUNCTIONAL = "functional"
    SHARED = "shared"
    BOUNDARY = "boundary"
    BASELINE = "baseline"


@dataclass(frozen=True)
class Property:
    """What every invariant says of itself."""

    @property
    def only_at_start(self) -> bool:
        """Whether it speaks of the state that `init` gives alone."""
        return False

    @property
    def starts_as_base(self) -> bool:
        """Whether it says that the adapted weight, or the model's answer, is the base's before training."""
        return False

    def bound(self, dtype: torch.dtype) -> float:
        """The largest residual that rounding in `dtype` explains."""
        return {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 3e-2}[dtype]

    def __str__(self) -> str:
        return (self.__doc__ or "").split("\n")[0].rstrip(".")


@dataclass(frozen=True)
class Adapter(ABC):
    """The base of every method: hyperparameters as fields, and what the method says of itself.

    A concrete subclass that sets `name` is known to `adapterlab.adapter(name)` from then on.
    """

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    theme: ClassVar[Theme]
    claim: ClassVar[str]
    """What the method believes about a transformer, in one sentence."""
    paper: ClassVar[str]
    """Address of the paper that defines it."""
    site: ClassVar[str]
    """The kind of place that it adapts."""
    mergeable: ClassVar[bool] = True
    size_knob: ClassVar[str | None] = None
    """The field that sets how many parameters are trained, if there is one."""
    registry: ClassVar[dict[str, type[Adapter]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__dict__.get("name"):
            Adapter.registry[cls.name] = cls

    @property
    def invariants(self) -> Sequence[Property]:
        """What the method holds, checked by one test over all methods: of each weight, or of the model."""
        return ()

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        """Why these hyperparameters cannot fit sites of these `(out, in)` shapes and how to mend it, or None."""
        return None

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        """The values that `size_knob` may take on sites of these shapes, from fewest parameters to most."""
        return range(1, min(min(shape) for shape in shapes) + 1)

    def scheduled(self, steps: int) -> Adapter:
        """The same method for a run of `steps` optimizer steps, where it has a schedule of its own."""
        return self

    def informed(self, *, paired: bool) -> Adapter:
        """The same method, once it is known whether it can look at runs of the model on pairs."""
        return self

    @property
    def starts_as_base(self) -> bool:
        """Whether the model answers as the base does before training."""
        return True

    @property
    def draws_in_training(self) -> bool:
        """Whether its forward pass draws random numbers while the model trains."""
        return bool(getattr(self, "dropout", 0.0))

    def strength_problem(self, strength: float) -> str | None:
        """Why the method means nothing at this strength and which it knows, or None."""
        return None

    def regularizer(self, state: State) -> Tensor | None:
        """A scalar added to the loss at each site, or None."""
        return None

    def after_step(self, states: Sequence[State], step: int) -> None:
        """Called with all sites' states after each optimizer step (from 0), before the gradients are cleared.

        Runs without recording gradients; may change the states in place.
        """

    def pack(self, state: State) -> State:
        """What is saved of a state; all of it, unless a method knows how to say it in less."""
        return state

    def unpack(self, state: State) -> State:
        """The state from what `pack` gave, answering with the same bits."""
        return state

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout | None:
        """Return the adapter in the names and shapes of the library PEFT, or None if PEFT has no such method.

        Args:
            sites: Sites of the adapter, with their states.

        Raises:
            CannotExportError: If PEFT has the method, but not with these hyperparameters or at these sites.
        """
        return None

    def settings(self) -> dict[str, Any]:
        """Name and hyperparameters as plain data, what TOML and JSON hold: `{"name": "lora", "rank": 8, ...}`."""
        return {"name": self.name, **dataclasses.asdict(self)}

    def __str__(self) -> str:
        changed = [
            f"{f.name}={getattr(self, f.name)}" for f in dataclasses.fields(self) if getattr(self, f.name) != f.default
        ]
        return f"{self.name}({', '.join(changed)})" if changed else self.name
