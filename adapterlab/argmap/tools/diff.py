r"""Differences between two maps: claims, arguments, texts, numbers, relations and scores.

>>> from adapterlab.argmap.model.build import parse
>>> before = parse("[Wet]: It is wet.\n  + [Rain]: It rains. {credence: 0.8}")
>>> after = parse("[Wet]: It is wet.\n  + [Rain]: It rains. {credence: 0.4}")
>>> diff_maps(before, after, "df-quad").changes[0]
Change(kind='number', name='[Rain] credence', before='0.8', after='0.4')
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from adapterlab.argmap.model.map import Argument, Claim, Map
from adapterlab.argmap.scoring.scores import Scores, score


@dataclass(frozen=True)
class Change:
    """One difference."""

    kind: str
    """`added`, `removed`, `text`, `number`, `structure` or `score`."""
    name: str
    """The claim, argument or relation, and the metadata key if one has changed."""
    before: str = ""
    """The old value; empty if there is none."""
    after: str = ""
    """The new value; empty if there is none."""


@dataclass
class MapDiff:
    """The differences between two maps, and the scores of both."""

    changes: list[Change] = field(default_factory=list)
    before: Scores | None = None
    """Scores of the first map."""
    after: Scores | None = None
    """Scores of the second map."""


def diff_maps(before: Map, after: Map, semantics: str | None = None, skip_broken: bool = False) -> MapDiff:
    """Compare two maps; claims and arguments with equal titles are the same.

    Args:
        before: The first map.
        after: The second map.
        semantics: As in `score`.
        skip_broken: As in `score`.

    Returns:
        The differences. A credence has changed if it differs by at least 0.0005.

    Raises:
        AdapterlabError: As in `score`, for either map.
    """
    scores = score(before, semantics, skip_broken=skip_broken), score(after, semantics, skip_broken=skip_broken)
    changes = _elements(before.claims, after.claims, "[{}]".format)
    changes += _elements(before.arguments, after.arguments, "<{}>".format)
    changes += _structures(before, after)
    relations = [{f"{r.source} {_VERBS[r.kind]} {r.target}": None for r in m.relations} for m in (before, after)]
    changes += [Change("removed", name) for name in relations[0] if name not in relations[1]]
    changes += [Change("added", name) for name in relations[1] if name not in relations[0]]
    for title, old in scores[0].claims.items():
        new = scores[1].claims.get(title)
        if new and abs(new.credence - old.credence) >= 0.0005:
            changes.append(Change("score", f"[{title}]", f"{old.credence:.3f}", f"{new.credence:.3f}"))
    return MapDiff(changes, *scores)


_VERBS = {
    "support": "supports",
    "attack": "attacks",
    "undercut": "undercuts",
    "contradictory": "contradicts",
    "entails": "entails",
    "contrary": "is contrary to",
}


def _elements(
    before: dict[str, Claim] | dict[str, Argument],
    after: dict[str, Claim] | dict[str, Argument],
    name: Callable[[str], str],
) -> list[Change]:
    changes = [Change("removed", name(title)) for title in before if title not in after]
    changes += [Change("added", name(title)) for title in after if title not in before]
    for title, old in before.items():
        new = after.get(title)
        if new is None:
            continue
        if old.text != new.text:
            changes.append(Change("text", name(title), old.text, new.text))
        for key in dict.fromkeys((*old.data, *new.data)):
            if old.data.get(key) != new.data.get(key):
                was, now = (str(d.get(key, "-")) for d in (old.data, new.data))
                changes.append(
                    Change("number" if key in ("credence", "prior") else "text", f"{name(title)} {key}", was, now)
                )
    return changes


def _structures(before: Map, after: Map) -> list[Change]:
    changes = []
    for title, old in before.arguments.items():
        new = after.arguments.get(title)
        if new is None:
            continue
        if old.numbered != new.numbered:
            shown = ("; ".join(t for _, t in a.numbered) for a in (old, new))
            changes.append(Change("structure", f"<{title}>", *shown))
        for number, (one, other) in enumerate(zip(old.steps, new.steps, strict=False), start=1):
            if one.inference != other.inference:
                name = f"<{title}> inference" + (f" {number}" if len(old.steps) > 1 else "")
                changes.append(Change("number", name, str(one.inference), str(other.inference)))
    return changes
