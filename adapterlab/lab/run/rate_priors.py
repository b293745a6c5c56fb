"""Predicted learning rates of methods that ledgers know: where the search for a rate starts, and how narrowly.

`rate_priors.toml` lists a rate for each method, learned from ledgers by `tools/learn_rate_priors.py`. Two laws carry a rate
over to other settings and models:

- If a method scales its update by `alpha` (LoRA: `W + alpha / rank * B A`), `alpha` and the rate are one degree of freedom
  as long as its parameters start near zero: Adam's steps do not depend on the size of the gradient, so twice the `alpha`
  has the effect of twice the rate. The prior is therefore a value of `alpha` times the rate, whatever the rank.
- Wider models take smaller rates: `width ** -0.78`, the exponent that the Tinker cookbook gives for LoRA on Llama models.

A prior need not be exact: the search leaves a poor one at the price of a few more runs. It is *trusted*, so that the search
begins with rates close to it, where the ledgers show that it carries over: on the model that they are of, with the method's
usual settings, for runs of a similar length, and if the best rate of every task was so near the rate learned from the
other tasks that three neighbouring rates hold it.

>>> prior("lora", {"alpha": 16.0}, width=256) == 2 * prior("lora", {"alpha": 32.0}, width=256)
True
>>> prior("lora", {"alpha": 16.0}, width=256) > prior("lora", {"alpha": 16.0}, width=4096)
True
>>> prior("my_own_method", {}, width=256) is None
True
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from adapterlab.adapters import adapter as make_adapter
from adapterlab.adapters import all_adapters

FILE = Path(__file__).parent / "rate_priors.toml"
"""The priors that come with the package."""
WIDTH_EXPONENT = -0.78
"""Power of the model's width that a rate grows with."""
TRUSTED_DISTANCE = 1.5
"""Largest distance, in steps of the lattice, of a task's best rate from the rate that the other tasks predict, for trust."""
TRUSTED_LENGTHS = 4.0
"""Largest ratio of the length of the first rung's runs to that of the runs that a prior was learned from, for trust."""
OWN_SETTINGS = ("length", "ids", "total_steps", "reparametrized")
"""Settings that the shipped studies change because the embedded model needs it."""


class Start(NamedTuple):
    """Rate at which a search starts."""

    rate: float
    trusted: bool = False
    """True if it is a prediction near which the search may begin with rates a quarter of a decade apart."""


@dataclass(frozen=True)
class RatePrior:
    """A rate that was found good for a method."""

    rate: float
    """Peak learning rate."""
    width: int
    """Width (hidden size) of the model that it was found on."""
    alpha: float | None = None
    """Value of the method's `alpha` that it belongs to; None for a method without one."""
    steps: int = 0
    """Training steps of the runs that it was learned from; 0 if unknown."""
    distance: float | None = None
    """Largest distance of a task's best rate from the rate that the other tasks predict, in steps of the lattice; None if
    there was one task alone."""

    def at(self, settings: Mapping[str, object], width: int | None) -> float:
        """Return the rate carried over to other settings and another model.

        Args:
            settings: The method's hyperparameters by name.
            width: Width of the model; None if unknown, for that of the prior.
        """
        rate, alpha = self.rate, settings.get("alpha")
        if self.alpha is not None and isinstance(alpha, (int, float)) and alpha > 0:
            rate *= self.alpha / alpha
        return rate if width is None else rate * (width / self.width) ** WIDTH_EXPONENT

    def trusted(self, settings: Mapping[str, object], steps: int) -> bool:
        """Return True if the ledgers show that the prior carries over to a search on their own model.

        Args:
            settings: The method's hyperparameters by name, with `name`.
            steps: Training steps of each run of the first rung.
        """
        known = self.distance is not None and self.distance <= TRUSTED_DISTANCE and self.steps > 0
        return known and 1 / TRUSTED_LENGTHS <= steps / self.steps <= TRUSTED_LENGTHS and usual(settings)


def prior(method: str, settings: Mapping[str, object], width: int | None) -> float | None:
    """Return the rate at which the search for a method's learning rate starts, or None for a method without a prior.

    Args:
        method: Name of the method.
        settings: Its hyperparameters by name.
        width: Width (hidden size) of the model; None if unknown.
    """
    known = rate_priors().get(method)
    return None if known is None else known.at(settings, width)


def usual(settings: Mapping[str, object]) -> bool:
    """Return True if a method has its default settings, apart from its size and `alpha`.

    >>> usual({**make_adapter("lora").settings(), "rank": 2}), usual(make_adapter("lora", rslora=True).settings())
    (True, False)

    Args:
        settings: The method's hyperparameters by name, with `name`.
    """
    name = str(settings["name"])
    kind = all_adapters().get(name)
    if kind is None:
        return False
    default, free = make_adapter(name).settings(), {kind.size_knob, "alpha", *OWN_SETTINGS}
    plain: Mapping[str, object] = json.loads(json.dumps(dict(settings)))
    return all(plain.get(key) == json.loads(json.dumps(value)) for key, value in default.items() if key not in free)


@cache
def rate_priors(file: Path = FILE) -> Mapping[str, RatePrior]:
    """Return the priors of a file by method.

    Args:
        file: A file in the form of `rate_priors.toml`.
    """
    return {method: RatePrior(**entry) for method, entry in tomllib.loads(file.read_text("utf-8")).items()}
