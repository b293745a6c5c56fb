"""The base classes of hypotheses.

>>> import torch
>>> from adapterlab.geometry.change import WeightChange
>>> from adapterlab.geometry.hypotheses.low_rank import LowRank
>>> change = WeightChange("q", torch.zeros(3, 3), torch.diag(torch.tensor([2.0, 1.0, 0.0])))
>>> [nearest] = LowRank().project([change], 1, Setting())
>>> nearest.weight.diagonal().round().tolist()
[2.0, 0.0, 0.0]
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.context import Factors
from adapterlab.errors import AdapterlabError
from adapterlab.geometry.change import WeightChange, frobenius
from adapterlab.surgery.init.svd_cache import FactorCache

EVERY = 1 << 30
"""A number of singular triplets that no weight has, for a projection that needs all of them."""


class Nearest(NamedTuple):
    """The nearest weight that a hypothesis allows."""

    weight: Float[Tensor, "out in"]
    """The weight, in the change's dtype."""
    converged: bool = True
    """False if a fit was stopped before its tolerance was met."""


@dataclass(frozen=True)
class Setting:
    """Seeds, tolerances and cached decompositions of projections."""

    factors: Callable[[Tensor], Factors] = field(default_factory=lambda: FactorCache(entries=8))
    """Singular value decomposition of a weight, cached."""
    seed: int = 0
    """Seed of the starts of a fit, and of what a method draws once for all layers."""
    starts: int = 3
    """Starts of a fit, at most; the best is continued."""
    trial: int = 1
    """Sweeps of each start before the best is chosen."""
    tolerance: float = 1e-3
    """A fit stops once a sweep lowers the residual (a share of the change's squared norm) by less than this."""
    sweeps: int = 200
    """Sweeps of a fit, at most."""


class Hypothesis(ABC):
    """A class of weight changes of growing size, and the projection on it."""

    name: ClassVar[str]
    """Short name."""
    title: ClassVar[str]
    """Name for reports."""
    statement: ClassVar[str]
    """The assumption about useful changes, in one sentence."""
    adapters: ClassVar[tuple[str, ...]]
    """Adapters whose changes are of this class."""
    exact: ClassVar[bool]
    """True if the projection is a closed form, False if it is a fit."""

    @abstractmethod
    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        """Return the values of the size knob that fit all layers, from fewest parameters to most.

        Args:
            shapes: `(out, in)` of every layer.
        """

    @abstractmethod
    def parameters(self, size: int, shapes: Mapping[str, tuple[int, int]]) -> int:
        """Return the number of parameters of a change of this class, over all layers.

        Args:
            size: Value of the size knob.
            shapes: `(out, in)` of every layer by path.
        """

    def groups(self, shapes: Mapping[str, tuple[int, int]]) -> Sequence[Sequence[str]]:
        """Return the paths of layers that are projected together: each alone, unless layers share parameters.

        Args:
            shapes: `(out, in)` of every layer by path.
        """
        return [[path] for path in shapes]

    @abstractmethod
    def project(self, changes: Sequence[WeightChange], size: int, setting: Setting) -> Sequence[Nearest]:
        """Return the nearest weight of each layer of a group; the base where the class has nothing nearer.

        Args:
            changes: The layers of one group, in the order of `groups`.
            size: Value of the size knob.
            setting: Seeds, tolerance, and cached decompositions.

        Raises:
            AdapterlabError: The size does not fit a layer.
        """

    def directions(self, size: int) -> int:
        """Return the number of leading singular triplets of the base or the change that a projection starts from.

        Args:
            size: Value of the size knob.
        """
        return 0

    def fits(self, size: int, shape: tuple[int, int]) -> bool:
        """Return True if a layer can have this size; `sizes` may be a selection of those.

        Args:
            size: Value of the size knob.
            shape: `(out, in)`.
        """
        return size in self.sizes([shape])

    def check(self, changes: Sequence[WeightChange], size: int) -> None:
        """Raise an error if a size does not fit a layer.

        Args:
            changes: The layers.
            size: Value of the size knob.

        Raises:
            AdapterlabError: It does not fit one of them.
        """
        for change in changes:
            if not self.fits(size, change.shape):
                rows, columns = change.shape
                raise AdapterlabError(
                    f"{self.name}: size {size} does not fit {change.path} ({rows} x {columns}): "
                    "give one that Hypothesis.sizes returns for the shapes of the layers"
                )


class LayerHypothesis(Hypothesis):
    """Base class of hypotheses whose layers share no parameters."""

    @abstractmethod
    def count(self, size: int, shape: tuple[int, int]) -> int:
        """Return the number of parameters of one layer.

        Args:
            size: Value of the size knob.
            shape: `(out, in)`.
        """

    @abstractmethod
    def nearest(self, change: WeightChange, size: int, setting: Setting) -> Nearest:
        """Return the nearest weight of one layer.

        Args:
            change: The change.
            size: Value of the size knob.
            setting: Seeds, tolerance, and cached decompositions.
        """

    def parameters(self, size: int, shapes: Mapping[str, tuple[int, int]]) -> int:
        return sum(self.count(size, shape) for shape in shapes.values())

    def project(self, changes: Sequence[WeightChange], size: int, setting: Setting) -> Sequence[Nearest]:
        self.check(changes, size)
        return [
            or_base(change, self.nearest(change, size, setting)) if change.norm else Nearest(change.base)
            for change in changes
        ]


def or_base(change: WeightChange, nearest: Nearest) -> Nearest:
    """Return a projection, or the base, which is in every class, if that is nearer, by rounding or in a failed fit.

    Args:
        change: The change.
        nearest: The projection.

    >>> import torch
    >>> change = WeightChange("q", torch.zeros(2, 2), torch.eye(2))
    >>> or_base(change, Nearest(-torch.eye(2))).weight.abs().sum()
    tensor(0.)
    """
    left = frobenius(change.tuned - nearest.weight)
    return nearest if left <= change.norm else Nearest(change.base, nearest.converged)
