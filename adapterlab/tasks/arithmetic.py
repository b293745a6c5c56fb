"""The `arithmetic` task: school problems in words, answered by a number.

The problems are generated here from templates and numbers, so there is no licence but that of this package.

>>> problem = problems(Part.TEST)[0]
>>> problem.prompt.endswith("A:"), problem.completion.strip().isdecimal()
(True, True)
"""

from __future__ import annotations

import hashlib
import itertools
import platform
import random
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from adapterlab.tasks.base import Part
from adapterlab.tasks.text import Completion, CompletionTask

COUNTS = {Part.TRAIN: 8_000, Part.VALIDATION: 400, Part.TEST: 400, Part.OOD: 600}
"""Number of problems in each part."""
IN_DOMAIN, LONGER, WORDING, STEP = "as trained", "longer numbers", "other wording", "one more step"
"""Kinds of problems: that of training, and the three out of domain."""
SMALL, LARGE = range(2, 60), range(120, 900)
"""Numbers in a problem, and those of `LONGER`."""
NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gita", "Hugo", "Iris", "Jon", "Kim", "Lea")
THINGS = ("apples", "stamps", "books", "marbles", "cards", "coins", "pencils", "shells", "tickets", "eggs")
STORY = {
    "start": (
        "{name} has {n} {things}.",
        "There are {n} {things} on {name}'s table.",
        "{name} starts with {n} {things}.",
    ),
    "+": ("{name} buys {n} more.", "{other} gives {name} {n} more.", "{name} finds another {n}."),
    "-": ("{name} gives {n} to {other}.", "{name} loses {n} of them.", "{n} of them are sold."),
    "*": ("Then {name} gets {n} times as many.", "The number grows to {n} times as many."),
    "ask": ("How many {things} does {name} have now?", "How many {things} are there in the end?"),
}
"""Sentences of the problems to train on."""
OTHER_STORY = {
    "start": ("A box of {name}'s holds {n} {things}.", "{name} counted {n} {things} this morning."),
    "+": ("A parcel with {n} arrives.", "The pile is raised by {n}."),
    "-": ("By noon, {n} had to be thrown away.", "{other} carries off {n}."),
    "*": ("Overnight the count is multiplied by {n}.",),
    "ask": ("What is the final number of {things}?", "State how many {things} {name} is left with."),
}
"""Sentences of `WORDING`."""


class Problem(NamedTuple):
    """A problem with its answer."""

    prompt: str
    completion: str
    kind: str
    """`IN_DOMAIN`, `LONGER`, `WORDING` or `STEP`."""


class Arithmetic(CompletionTask):
    """Problems of one or two steps with whole numbers, whose answer is a number."""

    name = "arithmetic"
    title = "School problems in words"
    explanation = (
        "Reasoning in small steps: a story adds, takes away and multiplies, and the answer is one number. Out of domain, in "
        "equal shares: longer numbers, other wording, and one more step than in any training example."
    )
    metric = "exact_match"
    """Score of the generated answer: 1 for the right number, 0 for another one."""
    packed = True

    def completions(self, part: Part) -> Sequence[Completion]:
        return [Completion(problem.prompt, problem.completion) for problem in problems(part)]

    def fingerprint(self) -> str:
        return f"school problems, first edition, drawn by the random numbers of Python {platform.python_version()}"


@cache
def problems(part: Part) -> tuple[Problem, ...]:
    """Return the problems of a part; out of domain, the three kinds in turn.

    Args:
        part: Any part except `Part.BASE`.
    """
    return tuple(itertools.islice(_generate(part), COUNTS[part]))


def _generate(part: Part) -> Iterator[Problem]:
    """Yield an endless series of distinct problems; a hash of the numbers decides the part that one belongs to."""
    draw = random.Random(f"arithmetic/{part}")
    kinds = itertools.cycle((LONGER, WORDING, STEP) if part is Part.OOD else (IN_DOMAIN,))
    seen = set()
    for kind in kinds:
        while True:
            problem, numbers = _draw(draw, kind)
            if problem not in seen and (kind != IN_DOMAIN or _part_of(numbers) is part):
                break
        seen.add(problem)
        yield problem


def _draw(draw: random.Random, kind: str) -> tuple[Problem, str]:
    """Return a problem, and its calculation as text."""
    story = OTHER_STORY if kind == WORDING else STORY
    name, other = draw.sample(NAMES, 2)
    things = draw.choice(THINGS)
    total = draw.choice(LARGE if kind == LONGER else SMALL)
    numbers = str(total)
    said = [(draw.choice(story["start"]), total)]
    for _ in range(3 if kind == STEP else draw.choice((1, 2))):
        sign = draw.choice("++--*")
        if sign == "*" and total > 300:
            sign = "-"
        number = draw.choice(range(2, 6) if sign == "*" else LARGE if kind == LONGER else SMALL)
        if sign == "-" and number > total:
            sign = "+"
        total = {"+": total + number, "-": total - number, "*": total * number}[sign]
        numbers += f"{sign}{number}"
        said.append((draw.choice(story[sign]), number))
    facts = {"name": name, "other": other, "things": things}
    text = " ".join(sentence.format(n=number, **facts) for sentence, number in said)
    return Problem(f"Q: {text} {draw.choice(story['ask']).format(**facts)}\nA:", f" {total}", kind), numbers


def _part_of(numbers: str) -> Part:
    first_byte = hashlib.sha256(numbers.encode()).digest()[0]
    return Part.VALIDATION if first_byte < 16 else Part.TEST if first_byte < 32 else Part.TRAIN
