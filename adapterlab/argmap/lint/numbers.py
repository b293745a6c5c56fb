r"""Checks of the numbers in a map: missing, out of range, ignored, repeated, or written before their reason.

>>> from adapterlab.argmap.model.build import parse
>>> the_map = parse("[Wet]: It is wet. {credence: 2}")
>>> is_quantitative(the_map), [finding.code for finding in NumberChecks(the_map, quantitative=True).numbers()]
(True, ['out-of-range', 'no-reason'])
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from adapterlab.argmap.lint.place import at, line_of
from adapterlab.argmap.model.map import Argument, Claim, Map, Mention, Step
from adapterlab.argmap.syntax.diagnostics import Diagnostic, Severity

NUMBERS = ("credence", "prior", "inference")
"""Keys of metadata that hold a probability."""


def is_quantitative(the_map: Map) -> bool:
    """Return True if the metadata of a map has at least one `credence:`, `prior:` or `inference:`.

    Args:
        the_map: The map.
    """
    elements = (*the_map.claims.values(), *the_map.arguments.values())
    steps = (step for argument in the_map.arguments.values() for step in argument.steps)
    blocks = chain((element.data for element in elements), (step.data for step in steps))
    return any(key in data for data in blocks for key in NUMBERS)


class NumberChecks:
    """Checks of the numbers in one map.

    Args:
        the_map: The map.
        quantitative: True if missing numbers are errors.
    """

    def __init__(self, the_map: Map, quantitative: bool) -> None:
        self.map, self.quantitative = the_map, quantitative

    def _at(self, place: Mention, severity: Severity, code: str, message: str, fix: str = "") -> Diagnostic:
        return at(self.map, place, severity, code, message, fix)

    def numbers(self) -> Iterator[Diagnostic]:
        """Find credences and inferences that are missing, out of range, or written before their reason.

        Yields:
            The findings.
        """
        concluded = {step.conclusion for a in self.map.arguments.values() for step in a.steps}
        pointed = {r.target.title for r in self.map.relations if r.target.kind == "claim" and r.kind != "undercut"}
        for claim in self.map.claims.values():
            if claim.broken:
                continue
            yield from self._number(claim.mentions, "credence", f"[{claim.title}]")
            yield from self._number(claim.mentions, "prior", f"[{claim.title}]")
            is_conclusion = claim.title in concluded
            if is_conclusion and claim.role != "thesis" and "credence" in claim.data:
                message = f"[{claim.title}] has a credence, but it is ignored: the claim is a conclusion of arguments"
                yield self._at(_stating(claim, "credence"), "warning", "credence-of-conclusion", message)
            needs_credence = self.quantitative and not is_conclusion and claim.title not in pointed
            if needs_credence and "credence" not in claim.data and claim.defined:
                fix = 'write {reason: "...", credence: 0.5} after it'
                yield self._at(claim.defined, "error", "no-credence", f"[{claim.title}] has no credence", fix)
        for argument in self.map.arguments.values():
            if argument.broken:
                continue
            for number, step in enumerate(argument.steps):
                yield from self._inference(argument, number, step)
            if not argument.steps and argument.text:
                yield from self._number(argument.mentions, "credence", f"<{argument.title}>")
                if self.quantitative and "credence" not in argument.data:
                    message = f"<{argument.title}> has neither a structure nor a credence"
                    yield self._at(argument.mentions[0], "error", "no-credence", message)

    def _inference(self, argument: Argument, number: int, step: Step) -> Iterator[Diagnostic]:
        name = f"<{argument.title}>" + (f", step {number + 1}" if len(argument.steps) > 1 else "")
        places = [m for m in self.map.claims[step.conclusion].mentions if m.argument == argument.title]
        yield from self._number(places, "inference", name)
        on_line = Mention(step.line, step.data_start, step.data_end, "inference", data=step.data)
        for key in ("inference", "credence"):
            if step.data_start >= 0:
                yield from self._number([on_line], key, name)
        stated = any("inference" in m.data for m in places) or {"inference", "credence"} & step.data.keys()
        if self.quantitative and not stated and places:
            fix = (
                'write {reason: "...", inference: 0.5} after the conclusion, or {inference: 0.5} on the inference line'
            )
            yield self._at(places[-1], "error", "no-inference", f"{name} has no inference", fix)

    def _number(self, places: Iterable[Mention], key: str, name: str) -> Iterator[Diagnostic]:
        for place in places:
            if key not in place.data:
                continue
            value = place.data[key]
            at = Mention(place.line, place.data_start, place.data_end, "", data=place.data)
            if isinstance(value, bool) or not isinstance(value, int | float):
                yield self._at(at, "error", "not-a-number", f"{name}: {key} is {value!r}, not a number")
            elif not 0.0 <= value <= 1.0:
                yield self._at(at, "error", "out-of-range", f"{name}: {key} {value:g} is outside [0, 1]")
            keys = list(place.data)
            if "reason" not in keys:
                yield self._at(at, "warning", "no-reason", f"{name}: {key} has no reason")
            elif keys.index("reason") > keys.index(key):
                fix = "write reason: first, so that the reason leads to the number and not the other way round"
                yield self._at(at, "warning", "number-first", f"{name}: {key} is written before its reason", fix)

    def repeated(self) -> Iterator[Diagnostic]:
        """Find claims with different credences or priors: the last is used.

        Yields:
            The findings.
        """
        for claim in self.map.claims.values():
            for key in ("credence", "prior") if len(claim.mentions) > 1 else ():
                stated = [mention for mention in claim.mentions if key in mention.data]
                for place in stated[:-1]:
                    last = stated[-1]
                    if place.data[key] != last.data[key]:
                        message = (
                            f"[{claim.title}] has another {key} in {line_of(self.map, last)}, {last.data[key]},"
                            f" which replaces the one in {line_of(self.map, place)}, {place.data[key]}"
                        )
                        block = Mention(place.line, place.data_start, place.data_end, "", data=place.data)
                        yield self._at(block, "warning", "other-number", message, "write one number")

    def theses(self) -> Iterator[Diagnostic]:
        """Find theses with a credence: the map computes it.

        Yields:
            The findings.
        """
        for title in self.map.theses:
            claim = self.map.claims[title]
            if "credence" in claim.data:
                yield self._at(
                    _stating(claim, "credence"),
                    "error",
                    "thesis-with-credence",
                    f"the thesis [{title}] has a credence, but the map computes it",
                    "delete it, or write prior: for the credence before any support or attack",
                )


def _stating(claim: Claim, key: str) -> Mention:
    """Return the place of the metadata block that has the key."""
    place = next(m for m in claim.mentions if key in m.data)
    return Mention(place.line, place.data_start, place.data_end, place.role, data=place.data)
