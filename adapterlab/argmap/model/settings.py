r"""Settings in the front matter that change the model: `explodeArguments` and `regroup`, as in the reference.

>>> from adapterlab.argmap.model.build import parse
>>> settings = "===\nmodel:\n    explodeArguments: true\n===\n\n"
>>> the_map = parse(settings + "<A>\n\n(1) p\n----\n(2) q\n----\n(3) r\n")
>>> [(title, argument.numbered) for title, argument in the_map.arguments.items()][1]
('A - 2', [('premise', 'Untitled 2'), ('main-conclusion', 'Untitled 3')])
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from adapterlab.argmap.model.map import Argument, Claim, Endpoint, Map, Mention, Section

MAX_LEVELS = 100
"""Levels of nested sections."""


def model_settings(settings: Mapping[str, object]) -> Mapping[str, object]:
    """Return the `model:` settings of a front matter.

    Args:
        settings: The front matter.
    """
    found = settings.get("model")
    return found if isinstance(found, dict) else {}


# explodeArguments


def explode_arguments(the_map: Map) -> None:
    """Replace each argument of several steps by one argument for each step: `<A>` by `<A - 1>`, `<A - 2>`.

    A step has the statements of its `uses:` (or `from:`) list as premises, otherwise the statements before its
    conclusion, from the last conclusion on. Relations of the argument belong to its last step.

    Args:
        the_map: The map; changed in place.
    """
    renamed: dict[Endpoint, Endpoint] = {}
    for argument in list(the_map.arguments.values()):
        if argument.steps and not argument.broken:
            renamed |= _explode(the_map, argument)
    for relation in the_map.relations:
        relation.source = renamed.get(relation.source, relation.source)
        relation.target = renamed.get(relation.target, relation.target)
        relation.written = [(renamed.get(a, a), renamed.get(b, b), line) for a, b, line in relation.written]


def _explode(the_map: Map, argument: Argument) -> dict[Endpoint, Endpoint]:
    """Explode one argument; return its endpoints with those that replace them."""
    mentions = _numbered_mentions(the_map, argument)
    parts = [_premises(argument, mentions, number) for number in range(len(argument.steps))]
    # The reference copies the statements of an argument of one step too, which changes their order in the claim.
    several = len(parts) > 1
    titles = [f"{argument.title} - {number}" if several else argument.title for number in range(1, len(parts) + 1)]
    taken = next((title for title in titles if several and title in the_map.arguments), None)
    if taken or any(part is None for part in parts):
        message = f"<{argument.title}> cannot be exploded into its steps: " + (
            f"there is an argument <{taken}> already" if taken else "a number in `uses:` is not one of its statements"
        )
        place = mentions[0]
        the_map.diagnostics.append(the_map.source.at("error", "explode", message, place.start, place.end))
        return {}
    if several:
        del the_map.arguments[argument.title]
    renamed = {Endpoint("argument", argument.title): Endpoint("argument", titles[-1])}
    for title, step, premises in zip(titles, argument.steps, parts, strict=True):
        numbered = [("premise", argument.numbered[i][1]) for i in premises or ()]
        conclusion_index = len(numbered)
        numbered.append(("main-conclusion", step.conclusion))
        for i in premises or ():
            _move(the_map, argument.numbered[i][1], mentions, i, "premise", title)
        _move(the_map, step.conclusion, mentions, step.conclusion_index, "main-conclusion", title)
        if not several:
            return {}
        old = Endpoint("inference", argument.title, step.conclusion_index)
        renamed[old] = Endpoint("inference", title, conclusion_index)
        own = replace(step, premises=[t for _, t in numbered[:-1]], conclusion_index=conclusion_index)
        the_map.arguments[title] = replace(argument, title=title, steps=[own], numbered=numbered)
    return renamed


def _numbered_mentions(the_map: Map, argument: Argument) -> list[Mention]:
    """Return the mentions of an argument's numbered statements, in order."""
    titles = dict.fromkeys(title for _, title in argument.numbered)
    found = (m for title in titles for m in the_map.claims[title].mentions if m.argument == argument.title)
    return sorted(found, key=lambda mention: mention.start)


def _premises(argument: Argument, mentions: list[Mention], number: int) -> list[int] | None:
    """Return the positions of a step's premises; None if its `uses:` names a statement that does not exist."""
    step = argument.steps[number]
    stated = (step.data.get("uses"), mentions[step.conclusion_index].data.get("uses"), step.data.get("from"))
    uses = next((value for value in stated if isinstance(value, list)), None)
    if uses is None:
        before = argument.steps[number - 1].conclusion_index if number else 0
        return list(range(before, step.conclusion_index))
    positions = [int(n) - 1 for n in uses if isinstance(n, int | float) and not isinstance(n, bool) and n == n // 1]
    known = len(positions) == len(uses) and all(0 <= position < len(mentions) for position in positions)
    return positions if known else None


def _move(the_map: Map, title: str, mentions: list[Mention], index: int, role: str, argument: str) -> None:
    """Add a copy of a mention to its claim, as a statement of another argument; the first copy replaces the mention."""
    claim = the_map.claims[title]
    claim.mentions = [mention for mention in claim.mentions if mention is not mentions[index]]
    claim.mentions.append(replace(mentions[index], role=role, argument=argument))


# regroup


def regroup(the_map: Map) -> None:
    """Replace the sections of a map by those in the setting `regroup:` of `group:`, if there is one.

    Args:
        the_map: The map; changed in place.
    """
    settings = the_map.settings.get("group")
    wanted = settings.get("regroup") if isinstance(settings, dict) else None
    if not isinstance(wanted, list) or not wanted:
        return
    for element in (*the_map.claims.values(), *the_map.arguments.values()):
        element.section = None
    the_map.sections = [
        _section(the_map, section, 1, number) for number, section in enumerate(wanted) if isinstance(section, dict)
    ]


def _section(the_map: Map, wanted: dict[str, object], level: int, number: int) -> Section:
    """Return a section with its children. Identifiers can occur twice, as in the reference."""
    title = wanted.get("title")
    section = Section(f"s{number}", "" if title is None else str(title), level, 1, _titles(wanted.get("tags")))
    named: list[Claim | Argument | None] = [the_map.claims.get(name) for name in _titles(wanted.get("statements"))]
    named.extend(the_map.arguments.get(name) for name in _titles(wanted.get("arguments")))
    for element in named:
        if element is not None:
            element.section = section.id
    children = wanted.get("children")
    for index, child in enumerate(children if isinstance(children, list) else ()):
        if isinstance(child, dict) and level < MAX_LEVELS:
            section.children.append(_section(the_map, child, level + 1, number + 1 + index))
    return section


def _titles(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []
