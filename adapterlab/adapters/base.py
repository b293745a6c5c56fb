"""The base class of every method: a frozen dataclass of hyperparameters, a claim, and pure functions of a state.

A new method is one file: subclass `LinearAdapter`, set its `name` and `claim`, and write `init` and `weight`. Attaching,
devices, dtypes, merging, strength and saving are handled by `adapterlab.surgery`, in the same way for all methods.

>>> from adapterlab.adapters import adapter
>>> method = adapter("lora", rank=4)
>>> method.settings()
{'name': 'lora', 'rank': 4, 'alpha': 16.0, 'rslora': False, 'dropout': 0.0, 'lr_ratio': 1.0, 'start': 'uniform',
'train_a': True, 'project': False}
>>> print(method)
lora(rank=4)
"""

from __future__ import annotations

import dataclasses
from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

import torch
from torch import Tensor

from adapterlab.adapters.peft_format import PeftFormat
from adapterlab.adapters.state import State


class Theme(StrEnum):
    """Themes of the argument map; each method belongs to one."""

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
    """A property that a method declares and that the tests check, described by the first line of its docstring."""

    @property
    def only_at_start(self) -> bool:
        """True if the property holds only for the state that `init` returns, before training."""
        return False

    @property
    def starts_as_base(self) -> bool:
        """True if the property implies that the adapter changes nothing before training."""
        return False

    def bound(self, dtype: torch.dtype) -> float:
        """Return the largest residual that rounding can explain.

        Args:
            dtype: Dtype of the adapter's state: float64, float32 or bfloat16.
        """
        return {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 3e-2}[dtype]

    def __str__(self) -> str:
        return (self.__doc__ or "").split("\n")[0].rstrip(".")


@dataclass(frozen=True)
class Adapter(PeftFormat, ABC):
    """Base class of every method. Its fields are the hyperparameters, all with defaults.

    A concrete subclass that sets `name` registers itself: `adapterlab.adapter(name)` then creates it.
    """

    name: ClassVar[str] = ""
    """Short name, by which studies and the command line refer to the method."""
    title: ClassVar[str] = ""
    """Full name."""
    theme: ClassVar[Theme]
    """Theme of the argument map that the method belongs to."""
    claim: ClassVar[str]
    """The method's assumption about transformers, in one sentence."""
    paper: ClassVar[str]
    """Address of the paper that defines the method."""
    site: ClassVar[str]
    """Kind of site that the method adapts."""
    mergeable: ClassVar[bool] = True
    """True if the adapter is a change of weights, so that it can be merged into them."""
    size_knob: ClassVar[str | None] = None
    """Field that sets the number of trained parameters; None if there is no such field."""
    libraries: ClassVar[tuple[str, ...]] = ()
    """Installed distributions whose code computes the method; their versions are part of a trial's id."""
    registry: ClassVar[dict[str, type[Adapter]]] = {}
    """All known methods by name."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__dict__.get("name"):
            Adapter.registry[cls.name] = cls

    @property
    def invariants(self) -> Sequence[Property]:
        """Properties of the adapted weights or of the adapted model that hold with these hyperparameters."""
        return ()

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        """Return an error message, with a fix, if these hyperparameters do not fit the model; None if they do.

        Args:
            shapes: `(out, in)` of every site.
        """
        return None

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        """Return the values of `size_knob` that fit the model, from fewest trained parameters to most.

        Args:
            shapes: `(out, in)` of every site.
        """
        return range(1, min(min(shape) for shape in shapes) + 1)

    def settings_for(self, budget: int, shapes: Sequence[tuple[int, int]]) -> Mapping[str, object]:
        """Return the settings to change before `size_knob` is set for a budget: those that would keep the size below it.

        Args:
            budget: Largest number of parameters.
            shapes: `(out, in)` of every site.
        """
        return {}

    def counted(self, trained: int) -> int:
        """Return the number of parameters that count against a budget: those that the finished adapter has.

        Args:
            trained: Number of scalars that are trained.
        """
        return trained

    def scheduled(self, steps: int) -> Adapter:
        """Return the method with its own schedule, if it has one, scaled to the length of a run.

        Args:
            steps: Number of optimizer steps.
        """
        return self

    def informed(self, *, paired: bool, prompted: bool | None = None) -> Adapter:
        """Return the method with the settings chosen that depend on the available data.

        Args:
            paired: True if `attach` was given runs of the model on pairs of prompts.
            prompted: True if the data are prompts with answers, False for running text, None if both or not known.
        """
        return self

    @property
    def starts_as_base(self) -> bool:
        """True if the adapted model gives the base model's outputs before training."""
        return True

    @property
    def lr_ratios(self) -> Mapping[str, float]:
        """Learning rates of tensors relative to that of the others, by the tensor's name in the state."""
        return {}

    @property
    def draws_in_training(self) -> bool:
        """True if the forward pass draws random numbers in training mode."""
        return bool(getattr(self, "dropout", 0.0))

    @property
    def mixes_rows(self) -> bool:
        """True if outputs depend on other rows of the batch or on later tokens, so that losses cannot be compared."""
        return False

    def strength_problem(self, strength: float) -> str | None:
        """Return an error message if the method does not support a strength; None if it does.

        Args:
            strength: 0 for the base model, 1 for the trained adapter.
        """
        return None

    def regularizer(self, state: State) -> Tensor | None:
        """Return the penalty of one site, a scalar, or None. The mean over all sites is added to the training loss.

        Args:
            state: State of the site.
        """
        return None

    def after_step(self, states: Sequence[State], step: int) -> None:
        """Change the states in place after an optimizer step.

        It is called without recording gradients, and before the gradients are cleared.

        Args:
            states: States of all sites.
            step: Number of the step, from 0.
        """

    def pack(self, state: State) -> State:
        """Return the tensors to save for one site: all of them, unless the method has a shorter form.

        Args:
            state: State of the site.
        """
        return state

    def unpack(self, state: State) -> State:
        """Return the state from the saved tensors. Its outputs are the same, bit for bit, as those of the packed state.

        Args:
            state: Tensors that `pack` returned.
        """
        return state

    def index_bound(self, name: str, shape: tuple[int, int] | None) -> int | None:
        """Return the number of values that the entries of a saved tensor of indices can have; None if not known.

        Loading refuses a file with other entries, or with one twice in a row of the last dimension.

        Args:
            name: Name of the tensor, as in `pack`.
            shape: `(out, in)` of the site. By default the tensor counts the entries of such a matrix.
        """
        return None if shape is None else shape[0] * shape[1]

    def settings(self) -> dict[str, object]:
        """Return name and hyperparameters as plain data that TOML and JSON can hold."""
        return {"name": self.name, **dataclasses.asdict(self)}

    def __str__(self) -> str:
        changed = [
            f"{f.name}={getattr(self, f.name)}" for f in dataclasses.fields(self) if getattr(self, f.name) != f.default
        ]
        return f"{self.name}({', '.join(changed)})" if changed else self.name
