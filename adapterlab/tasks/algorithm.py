"""The `algorithm` task: functions of digit strings, a skill that the base model was not taught.

Example:
    >>> OPERATIONS["unique"]("3132"), OPERATIONS["sum"]("999")
    ('312', '7')
"""

from __future__ import annotations

import hashlib
import itertools
import platform
import random
from collections.abc import Callable, Iterator, Sequence
from functools import cache

from adapterlab.tasks.base import Part
from adapterlab.tasks.text import Completion, CompletionTask

OPERATIONS: dict[str, Callable[[str], str]] = {
    "sort": lambda digits: "".join(sorted(digits)),
    "reverse": lambda digits: digits[::-1],
    "unique": lambda digits: "".join(dict.fromkeys(digits)),
    "sum": lambda digits: str(sum(map(int, digits)) % 10),
}
"""Functions by name. `unique` keeps the first of each digit; `sum` is the last digit of the sum of the digits."""
LENGTHS = range(3, 7)
"""Numbers of digits in a call, except out of domain."""
LONGER = range(7, 10)
"""Numbers of digits in a call out of domain."""
CALLS = {Part.TRAIN: 20_000, Part.VALIDATION: 500, Part.TEST: 500, Part.OOD: 500}
"""Number of calls in each part."""


class Algorithm(CompletionTask):
    """Calls of four functions with a string of digits, completed by their results."""

    name = "algorithm"
    title = "Algorithms on digits"
    explanation = (
        "A new capability: no program that the base model was trained on shows what these functions return, so the model "
        "must learn to sort, reverse, deduplicate and add digits. Out of domain: longer strings of digits than in any "
        "training example."
    )
    packed = True

    def completions(self, part: Part) -> Sequence[Completion]:
        return _calls(part)

    def fingerprint(self) -> str:
        return f"calls drawn by the random numbers of Python {platform.python_version()}"


@cache
def _calls(part: Part) -> tuple[Completion, ...]:
    return tuple(itertools.islice(_generate_calls(part), CALLS[part]))


def _generate_calls(part: Part) -> Iterator[Completion]:
    """Yield an endless series of distinct calls; a hash of the digits decides the part that a call belongs to."""
    draw = random.Random(f"algorithm/{part}")
    seen = set()
    while True:
        operation = draw.choice(list(OPERATIONS))
        digits = "".join(draw.choices("0123456789", k=draw.choice(LONGER if part is Part.OOD else LENGTHS)))
        if (operation, digits) not in seen and _part_of(digits) is part:
            seen.add((operation, digits))
            yield Completion(f'{operation}("{digits}") == "', f'{OPERATIONS[operation](digits)}"')


def _part_of(digits: str) -> Part:
    if len(digits) in LONGER:
        return Part.OOD
    first_byte = hashlib.sha256(digits.encode()).digest()[0]
    return Part.VALIDATION if first_byte < 16 else Part.TEST if first_byte < 32 else Part.TRAIN
