"""The survey's rubric, measured: what a study's contests grant a method, beside what the literature grants it."""

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
"""The survey's dimensions and what each is worth."""
SMALL = 0.01
"""PE: the largest share of the model's parameters that counts as parameter-efficient."""
COMPETITIVE = 0.9
"""PE: the share of full fine-tuning's gain that counts as competitive with it."""
ALIKE = 2.0
"""BL: how many times LoRA's parameters are still a comparable budget."""
FASTER = 0.8
"""DE: the share of the reference's steps within which its score must be reached."""
CARRIED = 0.5
"""OOD: the share of the in-domain gain that must show out-of-domain."""

THRESHOLDS = {
    "PE": f"at least {COMPETITIVE:.0%} of full fine-tuning's gain with at most {SMALL:.0%} of the model's parameters",
    "BL": f"better than LoRA (p < {SIGNIFICANT:g}, Holm) with at most {ALIKE:g} times its parameters",
    "BF": "not worse than full fine-tuning by as much as the study's smallest difference that matters",
    "DE": f"the reference's score within {FASTER:.0%} of its steps, or a lower loss from a tenth of the data",
    "OOD": f"at least {CARRIED:.0%} of the in-domain gain out-of-domain",
}
"""By dimension, what must hold of the whole 95 % interval for it to be granted, in words."""


class Found(StrEnum):
    """What the contests say of one dimension."""

    YES = "yes"
    NO = "no"
    OPEN = "open"
    """The interval has room for both."""
    UNMEASURED = "unmeasured"


@dataclass(frozen=True)
class Grade:
    """One dimension of one contestant."""

    found: Found
    why: str
    """The number behind it, or why there is none."""


@dataclass(frozen=True)
class Card:
    """One contestant's grades."""

    contestant: str
    grades: Mapping[str, Grade]
    literature: tuple[str, ...] | None
    """The dimensions that the survey grants; None for a method it does not grade."""

    @property
    def points(self) -> float:
        """What is granted here."""
        return sum(POINTS[name] for name, grade in self.grades.items() if grade.found is Found.YES)

    @property
    def literature_points(self) -> float | None:
        """What the survey grants, of the dimensions that can be measured."""
        return None if self.literature is None else sum(POINTS[name] for name in self.literature)


@cache
def literature() -> dict[str, tuple[str, ...]]:
    """By adapter, the dimensions that the survey grants it."""
    text = files("adapterlab.lab.analysis").joinpath("literature.toml").read_text("utf-8")
    return {name: tuple(dimensions) for name, dimensions in tomllib.loads(text).items()}


def grade(effects: Effects, model_parameters: int) -> list[Card]:
    """Every contestant's card, in the study's order; full fine-tuning is what others are graded against."""
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
    if times > ALIKE:
        return _unmeasured(f"trains {times:.1f} times as many parameters as LoRA")
    why = f"{_signed(lead.mean)} nats per byte against LoRA, p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"
    if p < SIGNIFICANT:
        return Grade(Found.YES if lead.mean > 0 else Found.NO, why)
    same = equivalence(lead, effects.results.study.report.smallest) < SIGNIFICANT
    return Grade(Found.NO, f"{why}: the same") if same else Grade(Found.OPEN, why)


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
    spared = effects.over_tasks({key: goal - value for key, value in steps.items()}, (name,), "steps_to_reference")
    reached = goal - spared.mean
    speed = f"after {reached:.0f} steps" if reached < results.study.training.steps else "never reached"
    ways = [_judge(spared, 0.0, f"{reference}'s score {speed}")] if steps else []
    tenth = effects.compare(name, reference, "tenth_of_data")
    if tenth.n:
        ways.append(
            _judge(tenth, 0.0, f"{_signed(tenth.mean)} nats per byte against {reference} from a tenth of the data")
        )
    if not ways:
        return _unmeasured("neither speed nor a tenth of the data was measured")
    order = (Found.YES, Found.OPEN, Found.NO)
    best = min(ways, key=lambda way: order.index(way.found))
    return Grade(best.found, "; ".join(way.why for way in ways))


def _carries_over(effects: Effects, name: str) -> Grade:
    if not effects.gained(name, "in_domain").low > 0:
        return _unmeasured("it learned nothing in-domain that is sure")
    inside, outside = effects.gains(name, "in_domain"), effects.gains(name, "out_of_domain")
    spare = {key: outside[key] - CARRIED * inside[key] for key in outside if key in inside}
    share = effects.gained(name, "out_of_domain").mean / effects.gained(name, "in_domain").mean
    return _judge(effects.over_tasks(spare, (name,), "out_of_domain"), 0.0, f"{share:.0%} of the in-domain gain")


def _judge(effect: Paired, above: float, why: str) -> Grade:
    if effect.n == 0:
        return _unmeasured("no run of it finished")
    if effect.low > above:
        return Grade(Found.YES, why)
    return Grade(Found.NO if effect.high < above else Found.OPEN, why)


def _parameters(effects: Effects, name: str) -> float:
    return max(effects.values(name, "parameters").values(), default=0.0)


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}"  # never a negative zero


def _unmeasured(why: str) -> Grade:
    return Grade(Found.UNMEASURED, why)
