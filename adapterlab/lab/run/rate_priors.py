"""Prior learning rates: where the search for a method's rate starts.

`rate_priors.toml` lists a rate for each method, learned from ledgers by `tools/learn_rate_priors.py`. Two laws carry a rate
over to other settings and models:

- If a method scales its update by `alpha` (LoRA: `W + alpha / rank * B A`), `alpha` and the rate are one degree of freedom
  as long as its parameters start near zero: Adam's steps do not depend on the size of the gradient, so twice the `alpha`
  has the effect of twice the rate. The prior is therefore a value of `alpha` times the rate, whatever the rank.
- Wider models take smaller rates: `width ** -0.78`, the exponent that the Tinker cookbook gives for LoRA on Llama models.

A prior need not be exact: the search leaves a poor one at the price of a few more runs.

>>> prior("lora", {"alpha": 16.0}, width=256) == 2 * prior("lora", {"alpha": 32.0}, width=256)
True
>>> prior("lora", {"alpha": 16.0}, width=256) > prior("lora", {"alpha": 16.0}, width=4096)
True
>>> prior("my_own_method", {}, width=256) is None
True
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).parent / "rate_priors.toml"
"""The priors that come with the package."""
WIDTH_EXPONENT = -0.78
"""Power of the model's width that a rate grows with."""


@dataclass(frozen=True)
class RatePrior:
    """A rate that was found good for a method."""

    rate: float
    """Peak learning rate."""
    width: int
    """Width (hidden size) of the model that it was found on."""
    alpha: float | None = None
    """Value of the method's `alpha` that it belongs to; None for a method without one."""

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


def prior(method: str, settings: Mapping[str, object], width: int | None) -> float | None:
    """Return the rate at which the search for a method's learning rate starts, or None for a method without a prior.

    Args:
        method: Name of the method.
        settings: Its hyperparameters by name.
        width: Width (hidden size) of the model; None if unknown.
    """
    known = rate_priors().get(method)
    return None if known is None else known.at(settings, width)


@cache
def rate_priors(file: Path = FILE) -> Mapping[str, RatePrior]:
    """Return the priors of a file by method.

    Args:
        file: A file in the form of `rate_priors.toml`.
    """
    return {method: RatePrior(**entry) for method, entry in tomllib.loads(file.read_text("utf-8")).items()}
