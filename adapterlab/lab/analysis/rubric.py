"""The rubric of a survey of adapters, graded from a study's results and compared with the grades from the literature.

>>> card = Card("lora", {"PE": Grade(Finding.YES, "95% of full fine-tuning's gain with 0.30% of the model")}, ("PE",))
>>> card.points, card.literature_points
(1.0, 1.0)
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files

from adapterlab.lab.analysis.contrast import Contrast, Term, share_beyond
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.pairwise import SIGNIFICANT
from adapterlab.lab.statistics import Paired, equivalence, holm

POINTS = {"PE": 1.0, "BL": 1.0, "BF": 1.5, "DE": 1.5, "OOD": 2.0}
"""Dimensions of the rubric, with the points of each."""
SMALL = 0.01
"""PE: largest share of the model's parameters that counts as parameter-efficient."""
COMPETITIVE = 0.9
"""PE: share of full fine-tuning's gain that counts as competitive."""
COMPARABLE = 2.0
"""BL: largest multiple of LoRA's number of parameters that counts as a comparable budget."""
FASTER = 0.8
"""DE: share of the reference's steps within which its score must be reached."""
CARRIED = 0.5
"""OOD: share of the in-domain gain that must be reached out-of-domain."""

THRESHOLDS = {
    "PE": f"at least {COMPETITIVE:.0%} of full fine-tuning's gain with at most {SMALL:.0%} of the model's parameters",
    "BL": f"better than LoRA (p < {SIGNIFICANT:g}, Holm over the contestants of this table) with at most "
    f"{COMPARABLE:g} times its parameters",
    "BF": "not worse than full fine-tuning by as much as the study's smallest difference that matters",
    "DE": f"the reference's score within {FASTER:.0%} of its steps, or a lower loss from a tenth of the data",
    "OOD": f"at least {CARRIED:.0%} of the in-domain gain out-of-domain",
}
"""By dimension, the condition that the whole 95 % interval must satisfy, in words."""


class Finding(StrEnum):
    """Finding on one dimension."""

    YES = "yes"
    """The condition holds in the whole interval."""
    NO = "no"
    """It holds nowhere in the interval."""
    OPEN = "open"
    """It holds in part of the interval."""
    UNMEASURED = "unmeasured"
    """The study does not measure it."""


@dataclass(frozen=True)
class Grade:
    """Grade of one contestant on one dimension."""

    finding: Finding
    why: str
    """The number behind the finding, or the reason why there is none."""


@dataclass(frozen=True)
class Card:
    """Grades of one contestant."""

    contestant: str
    grades: Mapping[str, Grade]
    """By dimension, the grade."""
    literature: tuple[str, ...] | None
    """Dimensions that the survey grants; None for a method that it does not grade."""

    @property
    def points(self) -> float:
        """Points for the dimensions granted by this study."""
        return sum(POINTS[name] for name, grade in self.grades.items() if grade.finding is Finding.YES)

    @property
    def literature_points(self) -> float | None:
        """Points for the dimensions granted by the survey, without those that no study can measure."""
        return None if self.literature is None else sum(POINTS[name] for name in self.literature)


@cache
def literature() -> dict[str, tuple[str, ...]]:
    """Return the dimensions that the survey grants, by adapter."""
    text = files("adapterlab.lab.analysis").joinpath("literature.toml").read_text("utf-8")
    return {name: tuple(dimensions) for name, dimensions in tomllib.loads(text).items()}


def grade(effects: Effects, model_parameters: int) -> list[Card]:
    """Grade every contestant except full fine-tuning, which the others are graded against.

    Args:
        effects: Effects estimated from finished contests.
        model_parameters: Number of parameters of the base model.

    Returns:
        One card for each contestant, in the study's order.
    """
    study = effects.results.study
    adapters = {entry.name: entry.adapter for entry in study.entrants}
    lora = next((name for name, adapter in adapters.items() if adapter == "lora"), None)
    full = next((name for name, adapter in adapters.items() if adapter == "full_ft"), None)
    facts = {name: _gather(effects, name, lora, full) for name in adapters}
    corrected = holm({name: f.versus_lora.p for name, f in facts.items() if f.versus_lora is not None and name != full})
    cards = []
    for name, adapter in adapters.items():
        if name == full:
            continue
        own, smallest = facts[name], study.report.smallest
        grades = {
            "PE": _efficient(own, model_parameters),
            "BL": _better_than_lora(own, facts[lora] if lora else None, corrected.get(name, 1.0), smallest),
            "BF": _as_good_as_full(own, smallest),
            "DE": _data_efficient(own, study.reference, study.training.steps),
            "OOD": _carries_over(own),
        }
        cards.append(Card(name, grades, literature().get(adapter)))
    return cards


@dataclass(frozen=True)
class _Facts:
    """Every effect that one contestant is graded by; None where a contestant to compare with did not run."""

    name: str
    parameters: float
    gain: Paired
    gain_ood: Paired
    versus_lora: Paired | None
    versus_full: Paired | None
    full_gain: Paired | None
    beyond_competitive: Paired | None
    """Gain beyond the competitive share of full fine-tuning's."""
    beyond_carried: Paired
    """Out-of-domain gain beyond the required share of the in-domain gain."""
    steps_spared: Paired
    """Steps by which the reference's score is reached before the required number of steps."""
    versus_reference_tenth: Paired
    """Difference from the reference after a tenth of the data."""


def _gather(effects: Effects, name: str, lora: str | None, full: str | None) -> _Facts:
    study, inside = effects.results.study, "in_domain"
    goal = FASTER * study.training.steps
    spared = Contrast((Term(name, "steps_to_reference", -1.0),), minus=-goal)
    versus_full = full_gain = beyond = None
    if full is not None:
        versus_full, full_gain = effects.compare(name, full, inside), effects.gained(full, inside)
        beyond = effects.estimate(share_beyond((name, inside), (full, inside), COMPETITIVE))
    return _Facts(
        name,
        max(effects.values(name, "parameters").values(), default=0.0),
        effects.gained(name, inside),
        effects.gained(name, "out_of_domain"),
        effects.compare(name, lora, inside) if lora is not None and name != lora else None,
        versus_full,
        full_gain,
        beyond,
        effects.estimate(share_beyond((name, "out_of_domain"), (name, inside), CARRIED)),
        effects.estimate(spared),
        effects.compare(name, study.reference, "tenth_of_data"),
    )


def _efficient(own: _Facts, model_parameters: int) -> Grade:
    if own.beyond_competitive is None or own.full_gain is None:
        return _unmeasured("full fine-tuning did not run")
    share = own.parameters / model_parameters
    if share > SMALL:
        return _unmeasured(f"trains {share:.1%} of the model")
    reached = own.gain.mean / own.full_gain.mean if own.beyond_competitive.n else 0.0
    why = f"{reached:.0%} of full fine-tuning's gain with {share:.2%} of the model"
    return _judge(own.beyond_competitive, 0.0, why)


def _better_than_lora(own: _Facts, lora: _Facts | None, p: float, smallest: float) -> Grade:
    lead = own.versus_lora
    if lora is None or lead is None:
        return _unmeasured("LoRA did not run" if lora is None else "is LoRA")
    times = own.parameters / max(1.0, lora.parameters)
    if times > COMPARABLE:
        return _unmeasured(f"trains {times:.1f} times as many parameters as LoRA")
    why = f"{_signed(lead.mean)} nats per byte against LoRA, p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"
    if p < SIGNIFICANT:
        return Grade(Finding.YES if lead.mean > 0 else Finding.NO, why)
    same = equivalence(lead, smallest) < SIGNIFICANT
    return Grade(Finding.NO, f"{why}: equivalent") if same else Grade(Finding.OPEN, why)


def _as_good_as_full(own: _Facts, smallest: float) -> Grade:
    if own.versus_full is None:
        return _unmeasured("full fine-tuning did not run")
    why = f"{_signed(own.versus_full.mean)} nats per byte against full fine-tuning"
    return _judge(own.versus_full, -smallest, why)


def _data_efficient(own: _Facts, reference: str, steps: int) -> Grade:
    if own.name == reference:
        return _unmeasured("is the reference")
    reached = FASTER * steps - own.steps_spared.mean
    speed = f"after {reached:.0f} steps" if reached < steps else "never reached"
    ways = [_judge(own.steps_spared, 0.0, f"{reference}'s score {speed}")] if own.steps_spared.n else []
    tenth = own.versus_reference_tenth
    if tenth.n:
        why = f"{_signed(tenth.mean)} nats per byte against {reference} from a tenth of the data"
        ways.append(_judge(tenth, 0.0, why))
    if not ways:
        return _unmeasured("neither speed nor a tenth of the data was measured")
    order = (Finding.YES, Finding.OPEN, Finding.NO)
    best = min(ways, key=lambda way: order.index(way.finding))
    return Grade(best.finding, "; ".join(way.why for way in ways))


def _carries_over(own: _Facts) -> Grade:
    if not own.gain.low > 0:
        return _unmeasured("its in-domain gain cannot be told from zero")
    share = own.gain_ood.mean / own.gain.mean
    return _judge(own.beyond_carried, 0.0, f"{share:.0%} of the in-domain gain")


def _judge(effect: Paired, above: float, why: str) -> Grade:
    if effect.n == 0:
        return _unmeasured("no run of it finished")
    if effect.low > above:
        return Grade(Finding.YES, why)
    return Grade(Finding.NO if effect.high < above else Finding.OPEN, why)


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}"  # never a negative zero


def _unmeasured(why: str) -> Grade:
    return Grade(Finding.UNMEASURED, why)
