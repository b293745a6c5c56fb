"""Calibration of the whole chain: in worlds with planted truths, claims that end near p are true in p of the cases.

    python -m benchmarks.planted_ledgers --ledgers 200

In each world the truth of the thesis is drawn first, then what it predicts, then what the literature says of each claim,
then the contestants' effects given which claims are true, and last the outcomes of all trials. A map with these numbers is
judged by these outcomes as a study's is: search, effects, joint update, network. The result is written to
`benchmarks/results/planted_ledgers.md`.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy import stats

from adapterlab import argmap
from adapterlab.lab.analysis.calibration import simulate
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.evidence import BETWEEN, odds
from adapterlab.lab.analysis.noise_model import QUICK, World
from adapterlab.lab.analysis.selection import ROUGH_REPLAYS
from adapterlab.lab.run.racing import TYPICAL
from adapterlab.lab.run.resolve import ResolvedStudy, resolve
from adapterlab.lab.statistics.joint import JointModel
from adapterlab.lab.study.spec import Contestant, Reporting, Study, Training, Tuning
from adapterlab.verdict import judge

RESULT = Path(__file__).parent / "results" / "planted_ledgers.md"
SMALLEST = Reporting().smallest
RIVAL = "lora"
THESIS = "Thesis"
SPEAKS = (0.55, 0.85)
"""Range of the probability that the literature is right about a claim."""
FULL = 1.0
"""Relevance of a model whose results count in full."""
PATTERNS = 4000
"""Draws of effects among which one with the claims' truths is chosen."""


@dataclass(frozen=True)
class Claim:
    """A claim of a planted map, and what predicts it."""

    title: str
    parent: str
    """Title of the claim that predicts it; empty for the thesis."""
    rates: tuple[float, float]
    """Its probability if the parent is true, and if it is false; for the thesis, its prior twice."""
    pair: tuple[str, str] | None = None
    """Contestants of its test, the one that is said to be better first; None for a claim without a test."""
    same_as: str = ""
    """Title of a claim before it that says the same, by the same contest and the same literature."""


@dataclass(frozen=True)
class Scenario:
    """Settings by which worlds are drawn."""

    name: str
    claims: tuple[Claim, ...]
    tasks: tuple[str, ...] = ("prose", "restyle")
    scale: float = 1.0
    """Size of the effects, as a multiple of what the analysis assumes."""
    between: float = 1.0
    """Their standard deviation between tasks, likewise."""
    alike: float = 0.0
    """Standard deviation of an effect that all contestants but the rival share, in units of the assumed scale."""
    correlated: bool = False
    """True if seeds affect all contestants together."""
    tails: float = math.inf
    """Degrees of freedom of the noise of a run."""
    sharpened: float = 1.0
    """Factor on the log-odds that the literature's evidence has in the map, 1 if the stated credences are right."""
    shifted: float = 0.0
    """Added to the log-odds of the stated credences."""
    relevance: float = FULL


SHARED = (
    Claim(THESIS, "", (0.4, 0.4)),
    Claim("A", THESIS, (0.75, 0.35), ("a", RIVAL)),
    Claim("B", THESIS, (0.7, 0.4), ("b", RIVAL)),
    Claim("Against", THESIS, (0.3, 0.6), ("c", RIVAL)),
    Claim("Between", THESIS, (0.8, 0.3)),
    Claim("D", "Between", (0.8, 0.3), ("d", RIVAL)),
)
"""Four contests with one rival."""
APART = tuple(
    replace(claim, pair=(claim.pair[0], f"rival-of-{claim.pair[0]}")) if claim.pair else claim for claim in SHARED
)
"""The same with a rival for each."""
TWICE = (*SHARED[:3], Claim("A again", THESIS, (0.75, 0.35), ("a", RIVAL), same_as="A"))
"""Two claims that one contest decides, and another claim."""


@dataclass(frozen=True)
class Ledger:
    """A judged world."""

    truth: Mapping[str, bool]
    before: Mapping[str, float]
    after: Mapping[str, float]


def play(scenario: Scenario, seed: int | Sequence[int]) -> Ledger:
    """Draw a world, and judge its map by its contests.

    Args:
        scenario: How it is drawn.
        seed: Its seed.
    """
    rng = np.random.default_rng(seed)
    truth = draw_truth(scenario, rng)
    the_map = map_of(scenario, truth, rng)
    study = _study(scenario)
    names = [entry.name for entry in study.study.contestants]
    effects = _effects(scenario, truth, names, rng)
    world = World(
        {task: QUICK[task.partition("-")[0]] for task in scenario.tasks},
        {},
        scenario.correlated,
        rng,
        math.log10(study.start(names[0], study.study.contestants[0].build()).rate) + rng.uniform(-0.125, 0.125),
        effects,
        scenario.tails,
    )
    judgement = judge(the_map, Effects.of(simulate(study, world), ROUGH_REPLAYS), scenario.relevance)
    before, after = (
        {title: found.credence for title, found in scores["bayes"].claims.items()}
        for scores in (judgement.before, judgement.after)
    )
    return Ledger(truth, before, after)


def draw_truth(scenario: Scenario, rng: np.random.Generator) -> dict[str, bool]:
    """Draw which claims are true, the thesis first.

    Args:
        scenario: How the world is drawn.
        rng: Source of random numbers.
    """
    truth: dict[str, bool] = {}
    for claim in scenario.claims:
        drawn = bool(rng.random() < claim.rates[0 if truth.get(claim.parent, True) else 1])
        truth[claim.title] = truth.get(claim.same_as, drawn)
    return truth


def map_of(scenario: Scenario, truth: Mapping[str, bool], rng: np.random.Generator) -> argmap.Map:
    """Return the map of a world, with what the literature says of its claims.

    Args:
        scenario: How the world is drawn.
        truth: By title, which claims are true.
        rng: Source of random numbers.
    """
    base: dict[str, float] = {}
    stated: dict[str, float] = {}
    blocks = [f"===\nsources: {{{', '.join(f'{claim.title}: 1' for claim in scenario.claims)}}}\n==="]
    for claim in scenario.claims:
        above = base.get(claim.parent, 1.0)
        rate = base[claim.title] = above * claim.rates[0] + (1 - above) * claim.rates[1]
        if not claim.parent:
            blocks.append(f"[{claim.title}]: t {{prior: {rate}}}")
            continue
        data = f"predicted: [{claim.rates[0]}, {claim.rates[1]}]"
        if claim.pair:
            right = rng.uniform(*SPEAKS)
            said = truth[claim.title] == (rng.random() < right)
            factor = scenario.sharpened * math.log(right / (1 - right)) * (1 if said else -1)
            credence = 1 / (1 + math.exp(-(math.log(rate / (1 - rate)) + factor + scenario.shifted)))
            credence = stated[claim.title] = stated.get(claim.same_as, credence)
            better, than = claim.pair
            test = f"{{better: {better}, than: {than}, in: in_domain, on: [{', '.join(scenario.tasks)}]}}"
            data += f", credence: {credence!r}, source: {claim.same_as or claim.title}, test: {test}"
        sign = "+>" if claim.rates[0] > claim.rates[1] else "->"
        blocks.append(f"[{claim.title}]: c {{reason: r, {data}}}\n  {sign} [{claim.parent}]")
    return argmap.parse("\n\n".join(blocks))


def _study(scenario: Scenario) -> ResolvedStudy:
    names = dict.fromkeys(name for claim in scenario.claims for name in claim.pair or ())
    return _resolved(tuple(names), scenario.tasks)


@cache
def _resolved(names: tuple[str, ...], tasks: tuple[str, ...]) -> ResolvedStudy:
    study = Study(
        name="planted",
        tasks=tasks,
        contestants=tuple(  # of different ranks, since equal trials would be one trial
            Contestant(adapter="lora", label=name, start=3.2e-3, settings={"rank": i})
            for i, name in enumerate(names, start=1)
        ),
        training=Training(steps=QUICK["prose"].steps),  # the length that planted effects are stated for
        tuning=Tuning(regret_sample=0),
        reference=names[1],
        full_ft=False,
        full_ft_reason="no truth is planted in it",
    )
    return resolve(study)


def _effects(
    scenario: Scenario, truth: Mapping[str, bool], names: Sequence[str], rng: np.random.Generator
) -> dict[tuple[str, str], float]:
    """Draw effects by contestant and task for which the claims have their truths."""
    model = JointModel(scenario.scale * TYPICAL * SMALLEST, scenario.between * BETWEEN * SMALLEST)
    tested = [claim for claim in scenario.claims if claim.pair]
    while True:
        draws = model.prior(len(names), len(scenario.tasks), PATTERNS, int(rng.integers(2**32)))
        common = rng.normal(0, scenario.alike * TYPICAL * SMALLEST, size=(1, 1, PATTERNS))
        others = np.array([name != RIVAL for name in names])[:, None, None]
        draws = replace(draws, theta=draws.theta + common * others)
        like = [draws.over(i, range(len(scenario.tasks))) for i in range(len(names))]
        fits = np.full(PATTERNS, True)
        for claim in tested:
            a, b = (names.index(name) for name in claim.pair or ())
            fits &= (like[a] - like[b] > SMALLEST) == truth[claim.title]
        if fits.any():
            theta = draws.theta[:, :, rng.choice(np.flatnonzero(fits))]
            return {
                (name, task): float(theta[i, j] - theta[0, j])
                for i, name in enumerate(names)
                for j, task in enumerate(scenario.tasks)
            }


BINS = 5
"""Bins of equal width between 0 and 1."""


@dataclass(frozen=True)
class Reliability:
    """Agreement of forecasts with truths, with errors clustered by ledger."""

    table: pd.DataFrame
    """By bin: forecasts, their mean, the share of truths, and its standard error around the mean."""
    chi_square: float
    """Score statistic of the bins' sums of truth less forecast being zero."""
    df: int
    p: float
    excess: float
    """Mean of truth less forecast."""
    excess_error: float
    slope: float
    """Of a logistic regression of the truth on the forecast's log-odds: below 1 if forecasts are too far from the middle."""
    slope_error: float
    brier: float


def reliability(forecasts: np.ndarray, truths: np.ndarray, ledgers: np.ndarray) -> Reliability:
    """Compare forecasts with truths.

    Args:
        forecasts: Probabilities.
        truths: True or false.
        ledgers: Ledger of each; those of one ledger depend on each other.
    """
    bins = np.minimum((forecasts * BINS).astype(int), BINS - 1)
    frame = pd.DataFrame({"bin": bins, "forecast": forecasts, "truth": truths.astype(float), "ledger": ledgers})
    frame["excess"] = frame["truth"] - frame["forecast"]
    sums = frame.pivot_table(index="ledger", columns="bin", values="excess", aggfunc="sum", fill_value=0.0)
    total, by_ledger = sums.sum().to_numpy(), sums.to_numpy()
    covariance = (
        by_ledger.T @ by_ledger
    )  # under the hypothesis their mean is zero, which holds the level with few ledgers
    chi_square = float(total @ np.linalg.pinv(covariance) @ total)
    table = frame.groupby("bin").agg(forecasts=("truth", "size"), forecast=("forecast", "mean"), true=("truth", "mean"))
    table["error"] = np.sqrt(np.diag(covariance)) / table["forecasts"].to_numpy()
    log_odds = np.log(odds(forecasts))
    fit = sm.GLM(frame["truth"], sm.add_constant(log_odds), family=sm.families.Binomial()).fit(
        cov_type="cluster", cov_kwds={"groups": ledgers}
    )
    return Reliability(
        table,
        chi_square,
        len(total),
        float(stats.chi2.sf(chi_square, len(total))),
        float(frame["excess"].mean()),
        math.sqrt(covariance.sum()) / len(frame),
        float(fit.params.iloc[1]),
        float(fit.bse.iloc[1]),
        float((frame["excess"] ** 2).mean()),
    )


def of_ledgers(ledgers: Sequence[Ledger], titles: Sequence[str], when: str = "after") -> Reliability:
    """Return the reliability of some claims' credences.

    Args:
        ledgers: Judged worlds.
        titles: Titles of the claims.
        when: `before` or `after` the contests.
    """
    rows = [
        (getattr(ledger, when)[title], ledger.truth[title], i) for i, ledger in enumerate(ledgers) for title in titles
    ]
    forecasts, truths, places = (np.array(column) for column in zip(*rows, strict=True))
    return reliability(forecasts, truths, places)


SCENARIOS = (
    Scenario("as assumed, a rival for each claim", APART),
    Scenario("as assumed, one rival for all", SHARED),
    Scenario("two claims about one contest", TWICE),
    Scenario("contestants alike", SHARED, alike=2.0),
    Scenario("seeds affect all contestants", SHARED, correlated=True),
    Scenario("heavy tails of runs (t, 3 df)", SHARED, tails=3.0),
    Scenario("effects a third as large", SHARED, scale=1 / 3),
    Scenario("effects three times as large", SHARED, scale=3.0),
    Scenario("tasks differ three times as much", SHARED, between=3.0),
    Scenario("one task", SHARED, tasks=("prose",)),
    Scenario("credences too far from the middle", SHARED, sharpened=2.0),
    Scenario("credences too high (log-odds + 1)", SHARED, shifted=1.0),
    Scenario("a relevance of 0.2", SHARED, relevance=0.2),
)
"""Worlds that the analysis assumes and worlds that it does not; in the last three, maps are wrong or relevance is small."""


def rows_of(scenario: Scenario, ledgers: Sequence[Ledger]) -> list[str]:
    """Return rows of the table of a scenario: the tested claims and the thesis, before and after the contests.

    Args:
        scenario: The scenario.
        ledgers: Its judged worlds.
    """
    tested = [claim.title for claim in scenario.claims if claim.pair]
    rows = []
    for what, titles in (("claims", tested), ("thesis", [THESIS])):
        for when in ("before", "after"):
            found = of_ledgers(ledgers, titles, when)
            rows.append(
                f"| {scenario.name} | {what} | {when} | {found.excess:+.3f} ± {found.excess_error:.3f} "
                f"| {found.slope:.2f} ± {found.slope_error:.2f} | {found.chi_square:.1f} / {found.df} | {found.p:.3f} "
                f"| {found.brier:.3f} |"
            )
    return rows


def bins_of(scenario: Scenario, ledgers: Sequence[Ledger]) -> list[str]:
    """Return rows of the reliability table of a scenario, after the contests.

    Args:
        scenario: The scenario.
        ledgers: Its judged worlds.
    """
    tested = [claim.title for claim in scenario.claims if claim.pair]
    return [
        f"| {scenario.name} | {what} | {int(row.forecasts)} | {row.forecast:.3f} | {row.true:.3f} ± {row.error:.3f} |"
        for what, titles in (("claims", tested), ("thesis", [THESIS]))
        for row in of_ledgers(ledgers, titles).table.itertuples()
    ]


def main() -> None:
    """Simulate all scenarios and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--ledgers", type=int, default=200, help="worlds of each scenario")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    rows, bins = [], []
    for number, scenario in enumerate(SCENARIOS):
        ledgers = [play(scenario, [chosen.seed, number, i]) for i in range(chosen.ledgers)]
        rows += rows_of(scenario, ledgers)
        bins += bins_of(scenario, ledgers)
        print("\n".join(rows[-4:]), flush=True)
        RESULT.write_text(_page(chosen.ledgers, rows, bins))


def _page(count: int, rows: Sequence[str], bins: Sequence[str]) -> str:
    return f"""# Claims that end near p are true in p of the cases

`python -m benchmarks.planted_ledgers --ledgers {count}`: {count} worlds of each kind. In each, the truth of the thesis is
drawn first, then that of the claims, then the contestants' effects, and last the outcomes of all trials (noise and search of
the quick study, three seeds). The map states the numbers by which the truths were drawn, and credences that a literature
of known reliability gives. Its claims are judged as those of a study are. Errors are clustered by world.

- *truth - forecast*: mean over claims and worlds; 0 if the forecasts are right on average.
- *slope*: of a logistic regression of the truth on the forecast's log-odds; below 1 if forecasts are too far from the
  middle, above 1 if they are too near.
- *chi square*: score statistic of truth less forecast in five bins, with its degrees of freedom and p-value.

| worlds | of | contests | truth - forecast | slope | chi square | p | Brier |
|---|---|---|---|---|---|---|---|
{chr(10).join(rows)}

After the contests, by bins of the forecast (± is one standard error):

| worlds | of | forecasts | mean | true |
|---|---|---|---|---|
{chr(10).join(bins)}
"""


if __name__ == "__main__":
    main()
