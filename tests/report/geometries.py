"""Results of the geometry of made-up changes, with known numbers."""

from __future__ import annotations

import dataclasses
import math

from adapterlab.geometry.result import GeometryResult, LayerGeometry, Null, Projection, Share

ROLES = ("query", "value", "up")
BUDGETS = (1_000, 4_000, 16_000)
TITLED = "low_rank"
NAMES = (TITLED, *(f"made_up_{i}" for i in range(16)))


def layer(role: str, depth: int, norm: float = 1.0, top: float = 0.2, rank: float = 3.0) -> LayerGeometry:
    """One layer whose top energy is far above chance, and whose stable rank is within it."""
    shape = (64, 32) if role == "up" else (32, 32)
    measures = {"energy_in_top(0.1)": top, "stable_rank": rank}
    nulls = {"energy_in_top(0.1)": Null(0.01, 0.005, 0.015), "stable_rank": Null(3.0, 2.5, 3.5)}
    spectrum = tuple(0.8 * 0.7**i for i in range(32))
    return LayerGeometry(f"model.layers.{depth}.{role}", role, depth, shape, norm, norm / 50, measures, nulls, spectrum)


def projections(expressed: dict[str, tuple[float, ...]] | None = None) -> tuple[Projection, ...]:
    """Every hypothesis at three sizes; the first expresses most, each other one less than the one before."""
    shares = expressed or {name: tuple(0.9 * 0.9**i * k for k in (0.3, 0.6, 0.9)) for i, name in enumerate(NAMES)}
    return tuple(
        Projection(name, size + 1, int(0.9 * budget), 1 - share, exact=i % 3 != 1, by_path={})
        for i, (name, own) in enumerate(shares.items())
        for size, (budget, share) in enumerate(zip(BUDGETS, own, strict=False))
    )


def change(**fields: object) -> GeometryResult:
    """A change of six layers and its projections, not scored."""
    layers = tuple(layer(role, depth, norm=1.0 + (role == "up")) for depth in range(2) for role in ROLES)
    result = GeometryResult("base", "tuned", layers, projections=projections(), budgets=BUDGETS)
    return dataclasses.replace(result, **fields)


def scored(gain: float = 0.1) -> GeometryResult:
    """The same with scores: a projection keeps the square root of what it expresses of the gain."""
    result = change(
        task="restyle", unit="nats per byte", scores={"in_domain": (1.2, 1.2 - gain), "general": (1.0, 1.04)}
    )

    def score(each: Projection) -> Projection:
        kept = math.sqrt(1 - each.residual) if gain > 0 else math.nan
        shares = {
            "in_domain": Share(1.2 - gain * math.sqrt(1 - each.residual), kept),
            "general": Share(1.0 + 0.04 * (1 - each.residual), math.nan),
        }
        return dataclasses.replace(each, scores=shares)

    return dataclasses.replace(result, projections=tuple(map(score, result.projections)))
