"""Origins of a ledger's trials: the environments that they ran in, and trials that a study no longer uses.

The name of a trial does not contain the versions of libraries or the device, so a study reuses trials that ran under other
versions. They are counted here, so that no result mixes them silently.

>>> old = {"python": "3.12.1", "torch": "2.12.0", "transformers": "5.1.0", "device": "cpu"}
>>> new = old | {"torch": "2.13.0"}
>>> records = [(old, "2026-05-01T09:00:00Z"), (new, "2026-06-01T09:00:00Z"), (new, "2026-06-02T09:00:00Z")]
>>> found = group_by_environment(records)
>>> [(origin.torch, origin.trials, str(origin.first)) for origin in found]
[('2.13.0', 2, '2026-06-01'), ('2.12.0', 1, '2026-05-01')]
>>> print(mixed_origins(found))
3 trials come from 2 environments: 2 with torch 2.13.0, 1 with torch 2.12.0; differences between contestants whose trials ran
in different environments may partly be differences between versions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from adapterlab.lab.trial.spec import Trial

UNKNOWN = "unknown"
"""Stands for a fact that an old ledger does not record."""
VERSIONS = {"python": "Python", "torch": "torch", "transformers": "transformers"}
HARDWARE = {"system": "system", "machine": "machine", "device": "device"}
LISTED = 4
"""Environments that a sentence lists; the others are counted."""


@dataclass(frozen=True)
class Origin:
    """One environment and the trials that ran in it."""

    python: str
    torch: str
    transformers: str
    adapterlab: str
    """Version of this package. The code that decides an outcome is part of a trial's name, so two versions of the package
    are not two environments if nothing else differs."""
    system: str
    """Operating system."""
    machine: str
    """Processor architecture."""
    device: str
    """`cpu`, or the model of the GPU."""
    trials: int
    """Number of trials that ran in it."""
    first: date
    """Day (UTC) when the first of them finished."""
    last: date
    """Day (UTC) when the last of them finished."""


@dataclass(frozen=True)
class Unused:
    """Trials of a ledger that a study does not use.

    >>> print(Unused(other_code=46, other_settings=12))
    58 trials in the ledger are not used by this study: 46 ran with code that has changed since, 12 have settings that the
    study does not ask for. They are kept.
    """

    other_code: int
    """Trials of a method and task that the study contains, run with other code than now."""
    other_settings: int
    """Trials that differ in anything else, such as a learning rate, the number of steps, the data or the model."""

    @property
    def trials(self) -> int:
        """Number of trials."""
        return self.other_code + self.other_settings

    def __str__(self) -> str:
        """Return a sentence, empty if there are none."""
        if not self.trials:
            return ""
        reasons = [
            f"{self.other_code} ran with code that has changed since" if self.other_code else "",
            f"{_have(self.other_settings)} settings that the study does not ask for" if self.other_settings else "",
        ]
        noun, verb, kept = ("trial", "is", "It is") if self.trials == 1 else ("trials", "are", "They are")
        return (
            f"{self.trials} {noun} in the ledger {verb} not used by this study: {', '.join(filter(None, reasons))}. "
            f"{kept} kept."
        )


def group_by_environment(records: Iterable[tuple[Mapping[str, str], str]]) -> list[Origin]:
    """Count trials by environment.

    Args:
        records: For each trial its environment, as `lab.trial.environment` gives it, and the time when it finished, in ISO
            format.

    Returns:
        One origin for each environment, the one with the most trials first.
    """
    days: dict[tuple[tuple[str, str], ...], list[date]] = defaultdict(list)
    for environment, finished in records:
        facts = tuple((key, environment.get(key, UNKNOWN)) for key in (*VERSIONS, "adapterlab", *HARDWARE))
        days[facts].append(date.fromisoformat(finished[:10]))
    ordered = sorted(days.items(), key=lambda item: (-len(item[1]), item[0]))
    return [Origin(**dict(facts), trials=len(found), first=min(found), last=max(found)) for facts, found in ordered]


def mixed_origins(origins: Sequence[Origin]) -> str:
    """Return a sentence that says which trials ran in which environment, empty if all ran in the same.

    Args:
        origins: The environments of a study's trials.
    """
    facts = {**VERSIONS, **HARDWARE}
    different = [key for key in facts if len({getattr(origin, key) for origin in origins}) > 1]
    if not different:
        return ""
    counts: dict[str, int] = defaultdict(int)
    for origin in origins:
        counts[_described(origin, different)] += origin.trials
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    listed = [f"{count} {text}" for text, count in ordered[:LISTED]]
    if rest := ordered[LISTED:]:
        listed.append(f"{sum(count for _, count in rest)} in {len(rest)} others")
    kinds = [
        name for name, keys in (("versions", VERSIONS), ("machines", HARDWARE)) if not set(different).isdisjoint(keys)
    ]
    return (
        f"{sum(counts.values())} trials come from {len(counts)} environments: {', '.join(listed)}; differences between "
        "contestants whose trials ran in different environments may partly be differences between "
        f"{' or '.join(kinds)}."
    )


def count_unused(recorded: Iterable[Trial], used: Iterable[Trial]) -> Unused:
    """Count the recorded trials that a study does not use.

    Args:
        recorded: All trials of a ledger.
        used: Trials that the contests of the study have used, or need next.

    Returns:
        The counts by reason.
    """
    used = set(used)
    names = {trial.id for trial in used}
    codes = {(trial.method, trial.task): trial.code for trial in used}
    code = settings = 0
    for trial in recorded:
        if trial.id not in names:
            changed = codes.get((trial.method, trial.task), trial.code) != trial.code
            code, settings = code + changed, settings + (not changed)
    return Unused(code, settings)


def _described(origin: Origin, different: Sequence[str]) -> str:
    """Return the facts of an environment that differ from another's: `with torch 2.13.0 on cpu`."""
    found = {key: getattr(origin, key) for key in different}
    versions = [
        f"{name} {'of unknown version' if found[key] == UNKNOWN else found[key]}"
        for key, name in VERSIONS.items()
        if key in found
    ]
    places = [
        f"an unknown {name}" if found[key] == UNKNOWN else found[key] for key, name in HARDWARE.items() if key in found
    ]
    phrases = [f"{word} {' and '.join(facts)}" for word, facts in (("with", versions), ("on", places)) if facts]
    return " ".join(phrases)


def _have(count: int) -> str:
    return f"{count} {'has' if count == 1 else 'have'}"
