r"""Checks of a map that can be read: missing definitions and numbers, circular entailment, isolated parts.

>>> from adapterlab.argmap.model.build import parse
>>> for finding in check(parse("[Wet]: It is wet. {prior: 0.4}\n  + [Rain]: It rains.")):
...     print(finding.message)
[Wet]: prior has no reason
[Rain] has no credence
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from adapterlab.argmap.lint.numbers import NumberChecks, is_quantitative
from adapterlab.argmap.lint.place import at
from adapterlab.argmap.lint.predictions import predictions
from adapterlab.argmap.model.graph import components, cycles
from adapterlab.argmap.model.map import Argument, Claim, Endpoint, Map, Mention
from adapterlab.argmap.syntax.diagnostics import Diagnostic, Severity


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
    checker = _Checker(the_map)
    numbers = NumberChecks(the_map, strict or is_quantitative(the_map))
    for part in (
        checker.references,
        checker.repetitions,
        numbers.numbers,
        numbers.repeated,
        numbers.theses,
        lambda: predictions(the_map),
        checker.observations,
        checker.entailment_cycles,
        checker.islands,
    ):
        found.extend(part())
    return sorted(dict.fromkeys(found), key=lambda d: d.order)


class _Checker:
    def __init__(self, the_map: Map) -> None:
        self.map = the_map

    def _at(self, place: Mention, severity: Severity, code: str, message: str, fix: str = "") -> Diagnostic:
        return at(self.map, place, severity, code, message, fix)

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
        """Find elements with different texts: one of them is shown."""
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

    # Observations

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
