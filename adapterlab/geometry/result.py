"""Results of the geometry of a weight change: small numbers, as plain data.

>>> result = GeometryResult("base", "tuned", layers=(LayerGeometry("h.0.up", "up", 0, (2, 3), 1.0, 0.1),))
>>> GeometryResult.from_json(result.to_json()) == result
True
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple


class Null(NamedTuple):
    """Values of a measure for random changes of the same norm."""

    mean: float
    low: float
    """2.5 % quantile of the draws."""
    high: float
    """97.5 % quantile of the draws."""


@dataclass(frozen=True)
class LayerGeometry:
    """Measures of the change of one linear layer."""

    path: str
    """Dotted path of the layer."""
    role: str
    """Role in the block (`adapterlab.adapters.context.Role`)."""
    depth: int | None
    """Number of the block, from 0; None outside of the blocks."""
    shape: tuple[int, int]
    """`(out, in)`."""
    norm: float
    """Frobenius norm of the change."""
    relative_norm: float
    """The same divided by the norm of the base."""
    measures: Mapping[str, float] = field(default_factory=dict)
    """Values by name of the measure (`adapterlab.geometry.measures`)."""
    nulls: Mapping[str, Null] = field(default_factory=dict)
    """For measures that are compared with chance, their values for random changes of the same norm."""
    spectrum: tuple[float, ...] = ()
    """Singular values of the change divided by its Frobenius norm, the largest first, at most 64."""
    left_out: float = 0.0
    """Bound on the spectral norm of what a randomized decomposition of the base or the change leaves out, as a share of the
    largest singular value; 0 if both are exact."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LayerGeometry:
        """Return the layer whose fields are given.

        Args:
            data: The fields by name; lists stand for tuples.
        """
        rows, columns = data["shape"]
        nulls = {name: Null(*null) for name, null in data.get("nulls", {}).items()}
        return cls(**{**data, "shape": (rows, columns), "nulls": nulls, "spectrum": tuple(data.get("spectrum", ()))})


class Share(NamedTuple):
    """Loss of a projected model on one part of a task."""

    loss: float
    """The loss, in the task's unit."""
    share: float
    """Gain over the base as a share of the full change's gain; NaN if the full change gains nothing."""


@dataclass(frozen=True)
class Projection:
    """The nearest change that a hypothesis allows, at one size."""

    hypothesis: str
    """Name of the hypothesis."""
    size: int
    """Value of its size knob."""
    parameters: int
    """Number of parameters of the projected change, over all layers."""
    residual: float
    """Squared distance of the projected change from the change, summed over layers, divided by the change's squared norm:
    0 if it is expressed wholly, 1 if not at all."""
    exact: bool = True
    """True for a closed form, False for a fit, whose residual is an upper bound."""
    converged: bool = True
    """False if a fit was stopped before its tolerance was met."""
    by_path: Mapping[str, float] = field(default_factory=dict)
    """Residual of each layer."""
    scores: Mapping[str, Share] = field(default_factory=dict)
    """Scores of the base model with the projected change, by part of the task; empty if no task was given."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Projection:
        """Return the projection whose fields are given.

        Args:
            data: The fields by name; lists stand for tuples.
        """
        return cls(**{**data, "scores": {part: Share(*share) for part, share in data.get("scores", {}).items()}})


@dataclass(frozen=True)
class GeometryResult:
    """Everything measured of one weight change."""

    base: str
    """The base model, as the user named it."""
    tuned: str
    """The changed model, as the user named it."""
    layers: tuple[LayerGeometry, ...]
    """Measures of each linear layer that changed."""
    unchanged: tuple[str, ...] = ()
    """Paths of linear layers that did not change."""
    others: tuple[tuple[str, float, float], ...] = ()
    """Changed parameters that are no weights of linear layers, each with the norm and the relative norm of the change."""
    sharing: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By group of layers (role and shape), measures of what their changes have in common."""
    sharing_nulls: Mapping[str, Mapping[str, Null]] = field(default_factory=dict)
    """The same for random changes of the same norm."""
    projections: tuple[Projection, ...] = ()
    """Projections on each hypothesis, at each size."""
    activations: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    """By text (`task` or `general`) and path of the layer or block, measures of what the change does to activations."""
    scores: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By part of the task, the losses of the base and of the full change of the linear layers."""
    task: str = ""
    """Name of the task of the scores; empty without one."""
    unit: str = ""
    """Unit of the losses."""
    notes: tuple[str, ...] = ()
    """Remarks for the reader, such as skipped layers."""
    budgets: tuple[int, ...] = ()
    """Numbers of parameters that the projections were sized to."""

    def to_json(self) -> dict[str, Any]:
        """Return plain data, from which `from_json` makes an equal result."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> GeometryResult:
        """Return the result that `to_json` was called on.

        Args:
            data: The fields by name; lists stand for tuples.
        """
        plain = dict(data)
        plain["layers"] = tuple(map(LayerGeometry.from_json, data["layers"]))
        plain["projections"] = tuple(map(Projection.from_json, data.get("projections", ())))
        plain["others"] = tuple((path, norm, relative) for path, norm, relative in data.get("others", ()))
        plain["sharing_nulls"] = {
            group: {name: Null(*null) for name, null in nulls.items()}
            for group, nulls in data.get("sharing_nulls", {}).items()
        }
        plain["scores"] = {part: (before, after) for part, (before, after) in data.get("scores", {}).items()}
        for name in ("unchanged", "notes", "budgets"):
            plain[name] = tuple(data.get(name, ()))
        return cls(**plain)
