r"""Checks of a map that can be read: missing definitions and numbers, circular entailment, isolated parts.

>>> from adapterlab.argmap.model.build import parse
>>> for finding in check(parse("[Wet]: It is wet. {prior: 0.4}\n  + [Rain]: It rains.")):
...     print(finding.message)
[Wet]: prior has no reason
[Rain] has no credence
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain

from adapterlab.argmap.model.graph import components, cycles
from adapterlab.argmap.model.map import Argument, Claim, Endpoint, Map, Mention, Step
from adapterlab.argmap.syntax.diagnostics import Diagnostic, Severity

NUMBERS = ("credence", "prior", "inference")
"""Keys of metadata that hold a probability."""


def check(the_map: Map, strict: bool = False) -> list[Diagnostic]:
    """Find errors and warnings in a map.

    Missing numbers are errors in quantitative maps only (see `is_quantitative`). One number is enough, of any kind,
    because a score needs a number for every claim and inference.

    Quotes are checked separately, by `evidence.check_evidence`, because that needs the quoted files.

    Args:
        the_map: The map.
        strict: Report missing numbers in a map without numbers too.

    Returns:
        All findings, those from reading the map included, in the order of the text.
    """
    found = list(the_map.diagnostics)
    checker = _Checker(the_map, strict or is_quantitative(the_map))
    for part in (
        checker.references,
        checker.repetitions,
        checker.numbers,
        checker.theses,
        checker.observations,
        checker.entailment_cycles,
        checker.islands,
    ):
        found.extend(part())
    return sorted(dict.fromkeys(found), key=lambda d: d.order)


def is_quantitative(the_map: Map) -> bool:
    """Return True if the metadata of a map has at least one `credence:`, `prior:` or `inference:`.

    Args:
        the_map: The map.
    """
    elements = (*the_map.claims.values(), *the_map.arguments.values())
    steps = (step for argument in the_map.arguments.values() for step in argument.steps)
    blocks = chain((element.data for element in elements), (step.data for step in steps))
    return any(key in data for data in blocks for key in NUMBERS)


class _Checker:
    def __init__(self, the_map: Map, quantitative: bool) -> None:
        self.map = the_map
        self.quantitative = quantitative
        """True if missing numbers are errors."""

    def _at(self, place: Mention, severity: Severity, code: str, message: str, fix: str = "") -> Diagnostic:
        return self.map.source.at(severity, code, message, place.start, min(place.end, place.start + 60), fix)

    # References

    def references(self) -> Iterator[Diagnostic]:
        """Find references and mentions without a definition, and claims with the title of an argument."""
        for claim in self.map.claims.values():
            place = claim.mentions[0]
            if claim.title in self.map.arguments and not claim.broken:
                yield self._at(
                    place,
                    "error",
                    "named-like-argument",
                    f"[{claim.title}] is a claim with the same title as the argument <{claim.title}>: support and"
                    " attacks on the claim do not reach the argument",
                    f"write <{claim.title}> or the title of its conclusion, or give the claim another title",
                )
            elif claim.defined is None and not claim.broken:
                yield self._at(
                    place,
                    "error",
                    "undefined",
                    f"[{claim.title}] is not defined",
                    f"write [{claim.title}]: and its text",
                )
        for argument in self.map.arguments.values():
            if not argument.steps and not argument.text and not argument.broken and argument.mentions:
                yield self._at(
                    argument.mentions[0],
                    "error",
                    "undefined",
                    f"<{argument.title}> has neither a structure nor a description",
                    f"write <{argument.title}>, an empty line and numbered statements",
                )
        for element in (*self.map.claims.values(), *self.map.arguments.values()):
            for place in element.mentions:
                for name in place.named:
                    known = self.map.claims if name.startswith("[") else self.map.arguments
                    if name[1:-1] not in known:
                        yield self._at(place, "warning", "undefined-mention", f"@{name} is not defined in this map")

    def repetitions(self) -> Iterator[Diagnostic]:
        """Find elements with different texts, and claims with different credences or priors: one of them is ignored."""
        for element in (*self.map.claims.values(), *self.map.arguments.values()):
            if len(element.mentions) < 2:
                continue
            name = f"[{element.title}]" if isinstance(element, Claim) else f"<{element.title}>"
            shown = element.defined
            for place in element.mentions:
                if shown and place.text and not place.reference and place.plain != shown.plain:
                    message = (
                        f"{name} has another text in line {shown.line}, which replaces the one in line {place.line}"
                    )
                    fix = "write one text, and refer to it by its title alone"
                    yield self._at(place, "warning", "other-text", message, fix)
            for key in ("credence", "prior") if isinstance(element, Claim) else ():
                stated = [m for m in element.mentions if key in m.data]
                for place in stated[:-1]:
                    if place.data[key] != stated[-1].data[key]:
                        message = (
                            f"{name} has another {key} in line {stated[-1].line}, {stated[-1].data[key]},"
                            f" which replaces the one in line {place.line}, {place.data[key]}"
                        )
                        at = Mention(place.line, place.data_start, place.data_end, "", data=place.data)
                        yield self._at(at, "warning", "other-number", message, "write one number")

    # Numbers

    def numbers(self) -> Iterator[Diagnostic]:
        """Find credences and inferences that are missing, out of range, or written before their reason."""
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

    # Roles of claims

    def theses(self) -> Iterator[Diagnostic]:
        """Find theses with a credence: the map computes it."""
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

    def observations(self) -> Iterator[Diagnostic]:
        """Find claims with the tag #observation but without a link to a source."""
        for claim in self.map.claims.values():
            if "observation" in claim.tags and not any(m.links for m in claim.mentions) and claim.defined:
                message = f"[{claim.title}] has the tag #observation but no source"
                yield self._at(
                    claim.defined, "error", "no-source", message, "add a [link](https://...), or tag it #assumption"
                )

    # The graph

    def _entailment(self) -> dict[str, list[str]]:
        edges: dict[str, list[str]] = defaultdict(list)
        for argument in self.map.arguments.values():
            before: list[str] = []
            for step in argument.steps:
                for premise in (*before, *step.premises):
                    edges[premise].append(step.conclusion)
                before = [step.conclusion]
        for relation in self.map.relations:
            if relation.kind == "entails":
                edges[relation.source.title].append(relation.target.title)
        return edges

    def entailment_cycles(self) -> Iterator[Diagnostic]:
        """Find claims that entail themselves through other claims."""
        for cycle in cycles(self._entailment()):
            place = min((self.map.claims[title].mentions[0] for title in cycle), key=lambda m: m.start)
            shown = " -> ".join(f"[{title}]" for title in (*cycle, cycle[0]))
            yield self._at(place, "error", "circular", f"circular entailment: {shown}", "no claim may support itself")

    def islands(self) -> Iterator[Diagnostic]:
        """Find parts of the map that no relation connects to the largest part."""
        edges: list[tuple[Endpoint, Endpoint]] = []
        for argument in self.map.arguments.values():
            own = Endpoint("argument", argument.title)
            edges.extend((own, Endpoint("claim", title)) for _, title in argument.numbered)
        for relation in self.map.relations:
            ends = (relation.source, relation.target)
            source, target = (Endpoint("argument", e.title) if e.kind == "inference" else e for e in ends)
            edges.append((source, target))
        everything = [Endpoint("claim", t) for t in self.map.claims] + [
            Endpoint("argument", t) for t in self.map.arguments
        ]
        parts = components(everything, edges)
        if len(parts) < 2:
            return
        largest = max(parts, key=len)
        for part in parts:
            if part is largest or any(self._element(end).broken for end in part):
                continue
            end = min(part, key=lambda e: self._place(e).start)
            if len(part) == 1:
                yield self._at(self._place(end), "warning", "isolated", f"{end} has no relation to any other")
            else:
                message = f"{end} and {len(part) - 1} more are not connected to the rest of the map"
                yield self._at(self._place(end), "warning", "island", message)

    def _element(self, end: Endpoint) -> Claim | Argument:
        return self.map.claims[end.title] if end.kind == "claim" else self.map.arguments[end.title]

    def _place(self, end: Endpoint) -> Mention:
        return self._element(end).mentions[0]


def _stating(claim: Claim, key: str) -> Mention:
    """Return the place of the metadata block that has the key."""
    place = next(m for m in claim.mentions if key in m.data)
    return Mention(place.line, place.data_start, place.data_end, place.role, data=place.data)
