"""`algorithm`: something to do with digits that nobody taught the base."""

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
"""What a call gives; the sum is that of the digits, and of it the last digit."""
LENGTHS = range(3, 7)
"""Digits in a call."""
LONGER = range(7, 10)
"""Digits in a call out of domain."""
CALLS = {Part.TRAIN: 20_000, Part.VALIDATION: 500, Part.TEST: 500, Part.OOD: 500}


class Algorithm(CompletionTask):
    """Calls of four functions with a string of digits, and what they give."""

    name = "algorithm"
    title = "Algorithms on digits"
    explanation = (
        "A new capability: nothing in the base's programs says what these functions give, so the model must learn to "
        "sort, reverse, thin out and add digits. Out of domain: more digits than any example had."
    )
    packed = True

    def completions(self, part: Part) -> Sequence[Completion]:
        return _calls(part)

    def fingerprint(self) -> str:
        return f"calls drawn by the random numbers of Python {platform.python_version()}"


@cache
def _calls(part: Part) -> tuple[Completion, ...]:
    return tuple(itertools.islice(_endless(part), CALLS[part]))


def _endless(part: Part) -> Iterator[Completion]:
    """Calls, none of them twice; which part a string of digits is in, a hash says."""
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
    side = hashlib.sha256(digits.encode()).digest()[0]
    return Part.VALIDATION if side < 16 else Part.TEST if side < 32 else Part.TRAIN
