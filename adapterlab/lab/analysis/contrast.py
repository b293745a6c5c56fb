"""Contrasts: linear combinations of the metrics of contestants, such as a difference or a gain over the frozen model.

>>> difference("oft", "lora", "in_domain").terms  # a loss: positive if oft's is lower
(Term(contestant='oft', metric='in_domain', weight=-1.0), Term(contestant='lora', metric='in_domain', weight=1.0))
>>> [term.weight for term in share_beyond(("ia3", "in_domain"), ("full_ft", "in_domain"), 0.5).terms]
[-1.0, 1.0, 0.5, -0.5]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from adapterlab.lab.analysis.metrics import METRICS
from adapterlab.lab.trial.spec import FROZEN


@dataclass(frozen=True)
class Term:
    """One metric of one contestant with its weight."""

    contestant: str
    metric: str
    weight: float


@dataclass(frozen=True)
class Contrast:
    """Weighted sum of metrics of contestants; positive means better."""

    terms: tuple[Term, ...]
    minus: float = 0.0
    """Constant that is subtracted from the sum."""

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of its contestants without the frozen model, in the order of the terms."""
        return tuple(dict.fromkeys(term.contestant for term in self.terms if term.contestant != FROZEN))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of its metrics, in the order of the terms."""
        return tuple(dict.fromkeys(term.metric for term in self.terms))

    @property
    def pooled_metric(self) -> str | None:
        """Metric of a contrast between trained contestants, whose variance their pairs inform; else None.

        The weights of such a contrast sum to zero, as those of a plain difference do.
        """
        between = all(term.contestant != FROZEN for term in self.terms) and len(self.trained) > 1
        balanced = abs(sum(term.weight for term in self.terms)) < 1e-9
        return self.metrics[0] if between and balanced and len(self.metrics) == 1 else None

    @property
    def spread(self) -> float:
        """Variance as a multiple of that of a plain difference, if all contestants vary by as much and independently."""
        return sum(term.weight**2 for term in self.terms) / 2

    def weights_of(self, contestant: str) -> dict[str, float]:
        """Return the weight of each metric of one contestant.

        Args:
            contestant: Name of the contestant.
        """
        return {term.metric: term.weight for term in self.terms if term.contestant == contestant}

    def beyond(self, margin: float) -> Contrast:
        """Return the contrast less a constant.

        Args:
            margin: The constant, in the unit of the metric.
        """
        return replace(self, minus=self.minus + margin)


def value(contestant: str, metric: str) -> Contrast:
    """Return a metric itself, whether lower or higher values are better.

    Args:
        contestant: Name of the contestant.
        metric: Name of the metric.
    """
    return Contrast((Term(contestant, metric, 1.0),))


def difference(a: str, b: str, metric: str) -> Contrast:
    """Return the difference of two contestants; positive if `a` is better.

    Args:
        a: Name of a contestant.
        b: Name of another.
        metric: Name of the metric.
    """
    sign = float(METRICS[metric].sign)
    return Contrast((Term(a, metric, sign), Term(b, metric, -sign)))


def combination(weights: Mapping[str, float], metric: str) -> Contrast:
    """Return a weighted sum of one metric of several contestants; positive if those with positive weights are better.

    Args:
        weights: By contestant, its weight; weights of zero are left out.
        metric: Name of the metric.
    """
    sign = METRICS[metric].sign
    return Contrast(tuple(Term(name, metric, sign * weight) for name, weight in weights.items() if weight))


def gain(contestant: str, metric: str) -> Contrast:
    """Return the improvement over the frozen model.

    Args:
        contestant: Name of the contestant.
        metric: Name of the metric.
    """
    return difference(contestant, FROZEN, metric)


def share_beyond(own: tuple[str, str], other: tuple[str, str], share: float) -> Contrast:
    """Return the part of a gain that exceeds a share of another gain; positive if it is larger.

    Args:
        own: A contestant and a metric.
        other: The contestant and the metric of the other gain.
        share: Share of the other gain, such as 0.9.
    """
    scaled = tuple(replace(term, weight=-share * term.weight) for term in gain(*other).terms)
    return Contrast((*gain(*own).terms, *scaled))
