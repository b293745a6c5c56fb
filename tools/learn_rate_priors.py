"""Learn prior learning rates from ledgers: `python tools/learn_rate_priors.py LEDGER ... [--out FILE]`.

Of each contest (a method in its default settings but for its size, on one task), the rate with the smallest mean validation
loss among the longest runs is taken, carried over to the method's default `alpha` and to the width of the embedded model.
The prior of the method is the geometric mean over its contests, to the nearest rate of the lattice. Methods that the
ledgers do not have keep the prior that they have. For each method the largest distance between the prior and a contest's
best rate is printed, in steps of the lattice (quarter decades): a search needs no growth within two.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

from adapterlab.adapters import adapter as make_adapter
from adapterlab.adapters import all_adapters
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.lr_search import PER_DECADE, position_of, rate_at
from adapterlab.lab.run.rate_priors import FILE, WIDTH_EXPONENT, RatePrior, rate_priors
from adapterlab.lab.trial.spec import FROZEN, Outcome, Trial
from adapterlab.models.loading import EMBEDDED
from adapterlab.models.width import width

Run = tuple[Trial, Outcome]


def learn(runs: Iterable[Run]) -> dict[str, tuple[RatePrior, float]]:
    """Return the prior of each method in the runs, and its largest distance from a contest's best rate in lattice steps."""
    contests: dict[str, dict[tuple[str, str, str], list[Run]]] = defaultdict(lambda: defaultdict(list))
    for trial, outcome in runs:
        if trial.method != FROZEN and trial.share == 1 and outcome.status == "ok" and usual(trial):
            contests[trial.method][trial.adapter, trial.task, trial.model_hash].append((trial, outcome))
    return {method: prior_of(method, list(groups.values())) for method, groups in sorted(contests.items())}


def usual(trial: Trial) -> bool:
    """Return True if the method has its default settings, apart from its size and `alpha`."""
    settings = json.loads(trial.adapter)
    kind = all_adapters().get(settings["name"])
    if kind is None:
        return False
    default, free = make_adapter(settings["name"]).settings(), {kind.size_knob, "alpha", *OWN_SETTINGS}
    return all(settings[key] == json.loads(json.dumps(value)) for key, value in default.items() if key not in free)


OWN_SETTINGS = ("length", "ids", "total_steps", "reparametrized")
"""Settings that the shipped studies change because the embedded model needs it."""


def prior_of(method: str, groups: list[list[Run]]) -> tuple[RatePrior, float]:
    """Return the prior from the runs of each contest of a method."""
    alpha, base = make_adapter(method).settings().get("alpha"), width(EMBEDDED)
    logs = []
    for runs in groups:
        trial = runs[0][0]
        rate, own, here = best_rate(runs), json.loads(trial.adapter).get("alpha"), width(trial.model)
        if alpha is not None:
            rate *= own / alpha
        if here is not None and base is not None:
            rate /= (here / base) ** WIDTH_EXPONENT
        logs.append(math.log10(rate))
    rate = rate_at(position_of(10 ** fmean(logs)))
    return RatePrior(rate, base or 0, alpha), max(abs(log - math.log10(rate)) for log in logs) * PER_DECADE


def best_rate(runs: list[Run]) -> float:
    """Return the rate with the smallest mean validation loss among the longest runs."""
    longest = max(trial.steps for trial, _ in runs)
    losses: dict[float, list[float]] = defaultdict(list)
    for trial, outcome in runs:
        if trial.steps == longest:
            losses[trial.lr].append(outcome.validation)
    return min(losses, key=lambda rate: fmean(losses[rate]))


def to_toml(priors: Mapping[str, RatePrior]) -> str:
    """Return the priors in the form of `rate_priors.toml`."""
    head = "# Prior learning rates, learned from ledgers by tools/learn_rate_priors.py; see rate_priors.py.\n"
    lines = []
    for method, prior in sorted(priors.items()):
        fields = ", ".join(f"{key} = {value}" for key, value in asdict(prior).items() if value is not None)
        lines.append(f"{method} = {{ {fields} }}\n")
    return head + "".join(lines)


def main() -> None:
    """Learn the priors and write them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("ledgers", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=FILE)
    given = parser.parse_args()
    found = learn((trial, outcome) for path in given.ledgers for trial, outcome, _ in Ledger(path))
    for method, (prior, distance) in found.items():
        print(f"{method:18} {prior.rate:<8g} at most {distance:.1f} steps from the best rate of a contest")
    given.out.write_text(to_toml({**rate_priors(), **{method: prior for method, (prior, _) in found.items()}}))


if __name__ == "__main__":
    main()
