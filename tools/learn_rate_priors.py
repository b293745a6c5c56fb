"""Learn to predict learning rates from ledgers: `python tools/learn_rate_priors.py [LEDGER ...]`.

The best rate of a contest (a method in its usual settings, on one task) is the lowest point of the parabola through the best
rate tried and its neighbours, among the longest runs that have such a bracket; if longer runs compared two rates, it is
averaged with the better of them. It is carried over to the method's default `alpha` and to the width of the embedded model.
Contests without a bracket are left out. The contests are kept in `tools/rate_contests.json`, with the gradient and curvature
at their start, so the ledgers are needed once.

From them are learned the prior of each method, the mean over its contests (`rate_priors.toml`), and the line that predicts
a rate from the curvature (`rate_curvature.toml`). Methods without a contest keep the prior that they have. How far each kind
of prediction is from the best rate, when the contest or its whole method is left out, is printed.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean

import numpy as np

from adapterlab.adapters import adapter as make_adapter
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run import rate_prediction, rate_priors
from adapterlab.lab.run.lr_search import HALF_DECADE, PER_DECADE, position_of
from adapterlab.lab.run.rate_priors import WIDTH_EXPONENT, RatePrior, usual
from adapterlab.lab.trial.runner import Runner
from adapterlab.lab.trial.spec import FROZEN, Outcome, Trial
from adapterlab.lab.trial.start_scale import measure_start
from adapterlab.models.fingerprint import EMBEDDED
from adapterlab.models.width import width
from tools.rate_validation import (
    Known,
    errors,
    line,
    of_both,
    of_curvature,
    of_method,
    of_moved_method,
    of_scale,
    reach,
    within_a_step,
)

Run = tuple[Trial, Outcome]
CONTESTS = Path(__file__).parent / "rate_contests.json"
"""The contests that the shipped predictions were learned from."""
PREDICTORS = {
    "one constant for each method": of_method,
    "the curvature's rate times a constant": of_scale,
    "a line in the curvature's rate": of_curvature,
    "the method's constant, moved by the curvature": of_moved_method,
    "mean of the method's constant and the line": of_both,
}


def contests_of(runs: Iterable[Run], runner: Runner | None = None) -> list[Known]:
    """Return the contests in the runs that have a best rate; a runner measures the curvature at their start."""
    groups: dict[tuple[str, str, str], list[Run]] = defaultdict(list)
    frozen: dict[str, float] = {}
    for trial, outcome in runs:
        if trial.method == FROZEN:
            frozen[trial.task] = outcome.validation
        if trial.method != FROZEN and trial.share == 1 and usual(json.loads(trial.adapter)):
            groups[trial.adapter, trial.task, trial.model_hash].append((trial, outcome))
    found = []
    for group in groups.values():
        best = best_of(group, frozen.get(group[0][0].task, math.inf))
        if best is None:
            continue
        trial, moved = group[0][0], _carried(group[0][0])
        scale = measure_start(runner.context(_probe(trial))).rate if runner is not None else None
        position, steps = best
        known = None if scale is None else PER_DECADE * math.log10(scale) + moved
        found.append(Known(trial.method, trial.task, position + moved, known, steps))
    return found


def _probe(trial: Trial) -> Trial:
    return replace(trial, seed=101, lr=1.0)


def _carried(trial: Trial) -> float:
    """Return the steps of the lattice that take a rate to the default `alpha` and to the width of the embedded model."""
    alpha, own = make_adapter(trial.method).settings().get("alpha"), json.loads(trial.adapter).get("alpha")
    factor = own / alpha if alpha is not None else 1.0
    here, base = width(trial.model), width(EMBEDDED)
    if here is not None and base is not None:
        factor /= (here / base) ** WIDTH_EXPONENT
    return PER_DECADE * math.log10(factor)


def best_of(runs: Sequence[Run], frozen: float = math.inf) -> tuple[float, int] | None:
    """Return the position of a contest's best rate, and the length of the runs that show it; None without a bracket.

    A run that ends no better than the frozen model has diverged.
    """
    by_length: dict[int, dict[int, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for trial, outcome in runs:
        by_length[trial.steps][trial.seed][position_of(trial.lr)] = (
            outcome.validation if outcome.validation < frozen else math.inf
        )
    longest = max(by_length)
    for steps in sorted(by_length, reverse=True):
        found = [low for losses in by_length[steps].values() if (low := lowest(losses)) is not None]
        if found:
            finals = [losses for losses in by_length[longest].values() if steps < longest and len(losses) > 1]
            winners = [min(losses, key=lambda position: losses[position]) for losses in finals]
            return (fmean([fmean(found), fmean(winners)]) if winners else fmean(found)), steps
    return None


def lowest(losses: Mapping[int, float]) -> float | None:
    """Return the lowest point of the parabola through the best position and its neighbours; None if it has none near it."""
    best = min(losses, key=lambda position: (losses[position], position))
    below, above = ([p for p in losses if (p - best) * side > 0] for side in (-1, 1))
    if not below or not above or losses[best] == math.inf:
        return None
    low, high = max(below), min(above)
    if max(best - low, high - best) > HALF_DECADE:
        return None
    if math.inf in (losses[low], losses[high]):
        return float(best)
    bend, tilt, _ = np.polyfit([low - best, 0, high - best], [losses[low], losses[best], losses[high]], 2)
    return best - float(tilt / (2 * bend)) if bend > 0 else float(best)


def priors_of(contests: Sequence[Known]) -> dict[str, RatePrior]:
    """Return the prior of each method, with its largest distance from a task's best rate."""
    by_method: dict[str, list[Known]] = defaultdict(list)
    for contest in contests:
        by_method[contest.method].append(contest)
    priors = {}
    for method, own in sorted(by_method.items()):
        rate = float(f"{10 ** (fmean(contest.best for contest in own) / PER_DECADE):.2g}")
        apart = [abs(error) for error in errors(own, of_method)]
        alpha = make_adapter(method).settings().get("alpha")
        steps = round(fmean(contest.steps for contest in own))
        priors[method] = RatePrior(
            rate, width(EMBEDDED) or 0, alpha, steps, float(f"{max(apart):.2f}") if apart else None
        )
    return priors


def to_toml(priors: Mapping[str, RatePrior]) -> str:
    """Return the priors in the form of `rate_priors.toml`."""
    head = "# Prior learning rates, learned from ledgers by tools/learn_rate_priors.py; see rate_priors.py.\n"
    lines = []
    for method, prior in sorted(priors.items()):
        fields = ", ".join(f"{key} = {value}" for key, value in asdict(prior).items() if value is not None)
        lines.append(f"{method} = {{ {fields} }}\n")
    return head + "".join(lines)


def law_toml(contests: Sequence[Known]) -> str:
    """Return the line in the curvature's rate in the form of `rate_curvature.toml`."""
    known = [contest for contest in contests if contest.scale is not None]
    intercept, slope = line(known)
    kinds = {"prior": of_method, "curvature": of_curvature, "both": of_both}
    return (
        "# Line from the curvature's rate to the best rate, learned by tools/learn_rate_priors.py; see rate_prediction.py.\n"
        f"intercept = {intercept:.3f}\nslope = {slope:.3f}\ncontests = {len(known)}\n"
        f"methods = {len({contest.method for contest in known})}\n\n[reach]\n"
        + "".join(f"{kind} = {reach(errors(contests, predictor)):.2f}\n" for kind, predictor in kinds.items())
    )


def report(contests: Sequence[Known]) -> str:
    """Return a table of the cross-validated predictions."""
    lines = ["| prediction | contests | within a step | 90 % within | root mean square |", "|---|--:|--:|--:|--:|"]
    for name, predictor in PREDICTORS.items():
        if found := errors(contests, predictor):
            rms = math.sqrt(fmean(error**2 for error in found))
            lines.append(f"| {name} | {len(found)} | {within_a_step(found):.0%} | {reach(found):.2f} | {rms:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Learn the predictions and write them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("ledgers", nargs="*", type=Path)
    parser.add_argument("--contests", type=Path, default=CONTESTS)
    given = parser.parse_args()
    kept = json.loads(given.contests.read_text()) if given.contests.is_file() else []
    known = {(entry["method"], entry["task"]): Known(**entry) for entry in kept}
    runs = [(trial, outcome) for path in given.ledgers for trial, outcome, _ in Ledger(path)]
    known |= {(contest.method, contest.task): contest for contest in contests_of(runs, Runner())}
    contests = [known[key] for key in sorted(known)]
    given.contests.write_text(json.dumps([asdict(contest) for contest in contests], indent=1) + "\n")
    rate_priors.FILE.write_text(to_toml({**rate_priors.rate_priors(), **priors_of(contests)}))
    rate_prediction.FILE.write_text(law_toml(contests))
    print(report(contests))


if __name__ == "__main__":
    main()
