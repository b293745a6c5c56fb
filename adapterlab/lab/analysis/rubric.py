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

from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.pairwise import SIGNIFICANT
from adapterlab.lab.analysis.statistics import Paired, equivalence, holm

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
    "BL": f"better than LoRA (p < {SIGNIFICANT:g}, Holm) with at most {COMPARABLE:g} times its parameters",
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
    results = effects.results
    adapters = {entry.name: entry.adapter for entry in results.study.entrants}
    lora = next((name for name, adapter in adapters.items() if adapter == "lora"), None)
    full = next((name for name, adapter in adapters.items() if adapter == "full_ft"), None)
    rivals = [name for name in adapters if name not in (lora, full)]
    leads = {name: effects.compare(name, lora, "in_domain") for name in rivals} if lora else {}
    corrected = holm({name: lead.p for name, lead in leads.items()})
    cards = []
    for name, adapter in adapters.items():
        if name == full:
            continue
        grades = {
            "PE": _efficient(effects, name, full, model_parameters),
            "BL": _better_than_lora(effects, name, lora, leads.get(name), corrected.get(name, 1.0)),
            "BF": _as_good_as_full(effects, name, full),
            "DE": _data_efficient(effects, name),
            "OOD": _carries_over(effects, name),
        }
        cards.append(Card(name, grades, literature().get(adapter)))
    return cards


def _efficient(effects: Effects, name: str, full: str | None, model_parameters: int) -> Grade:
    if full is None:
        return _unmeasured("full fine-tuning did not run")
    share = _parameters(effects, name) / model_parameters
    if share > SMALL:
        return _unmeasured(f"trains {share:.1%} of the model")
    mine, theirs = (effects.gains(each, "in_domain") for each in (name, full))
    spare = {key: mine[key] - COMPETITIVE * theirs[key] for key in mine if key in theirs}
    reached = effects.gained(name, "in_domain").mean / effects.gained(full, "in_domain").mean if spare else 0.0
    return _judge(
        effects.over_tasks(spare, (name, full), "in_domain"),
        0.0,
        f"{reached:.0%} of full fine-tuning's gain with {share:.2%} of the model",
    )


def _better_than_lora(effects: Effects, name: str, lora: str | None, lead: Paired | None, p: float) -> Grade:
    if lora is None or lead is None:
        return _unmeasured("is LoRA" if lora == name else "LoRA did not run")
    times = _parameters(effects, name) / max(1.0, _parameters(effects, lora))
    if times > COMPARABLE:
        return _unmeasured(f"trains {times:.1f} times as many parameters as LoRA")
    why = f"{_signed(lead.mean)} nats per byte against LoRA, p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"
    if p < SIGNIFICANT:
        return Grade(Finding.YES if lead.mean > 0 else Finding.NO, why)
    same = equivalence(lead, effects.results.study.report.smallest) < SIGNIFICANT
    return Grade(Finding.NO, f"{why}: equivalent") if same else Grade(Finding.OPEN, why)


def _as_good_as_full(effects: Effects, name: str, full: str | None) -> Grade:
    results = effects.results
    if full is None:
        return _unmeasured("full fine-tuning did not run")
    behind = effects.compare(name, full, "in_domain")
    why = f"{_signed(behind.mean)} nats per byte against full fine-tuning"
    return _judge(behind, -results.study.report.smallest, why)


def _data_efficient(effects: Effects, name: str) -> Grade:
    results = effects.results
    reference, goal = results.study.reference, FASTER * results.study.training.steps
    if name == reference:
        return _unmeasured("is the reference")
    steps = effects.values(name, "steps_to_reference")
    steps_spared = effects.over_tasks(
        {key: goal - value for key, value in steps.items()}, (name,), "steps_to_reference"
    )
    reached = goal - steps_spared.mean
    speed = f"after {reached:.0f} steps" if reached < results.study.training.steps else "never reached"
    ways = [_judge(steps_spared, 0.0, f"{reference}'s score {speed}")] if steps else []
    tenth = effects.compare(name, reference, "tenth_of_data")
    if tenth.n:
        ways.append(
            _judge(tenth, 0.0, f"{_signed(tenth.mean)} nats per byte against {reference} from a tenth of the data")
        )
    if not ways:
        return _unmeasured("neither speed nor a tenth of the data was measured")
    order = (Finding.YES, Finding.OPEN, Finding.NO)
    best = min(ways, key=lambda way: order.index(way.finding))
    return Grade(best.finding, "; ".join(way.why for way in ways))


def _carries_over(effects: Effects, name: str) -> Grade:
    if not effects.gained(name, "in_domain").low > 0:
        return _unmeasured("its in-domain gain cannot be told from zero")
    inside, outside = effects.gains(name, "in_domain"), effects.gains(name, "out_of_domain")
    spare = {key: outside[key] - CARRIED * inside[key] for key in outside if key in inside}
    share = effects.gained(name, "out_of_domain").mean / effects.gained(name, "in_domain").mean
    return _judge(effects.over_tasks(spare, (name,), "out_of_domain"), 0.0, f"{share:.0%} of the in-domain gain")


def _judge(effect: Paired, above: float, why: str) -> Grade:
    if effect.n == 0:
        return _unmeasured("no run of it finished")
    if effect.low > above:
        return Grade(Finding.YES, why)
    return Grade(Finding.NO if effect.high < above else Finding.OPEN, why)


def _parameters(effects: Effects, name: str) -> float:
    return max(effects.values(name, "parameters").values(), default=0.0)


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}"  # never a negative zero


def _unmeasured(why: str) -> Grade:
    return Grade(Finding.UNMEASURED, why)
