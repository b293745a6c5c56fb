"""Pairs of contestants: groups of a ranking, sentences, and comparisons over ledgers that the test fills."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from adapterlab.errors import AdapterlabError
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.metrics import METRICS
from adapterlab.lab.analysis.pairwise import SIGNIFICANT, Comparison, Lead, PairTable, Side, compare, listed
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.statistics import equivalence, paired
from adapterlab.lab.study.spec import Contestant, Reporting
from adapterlab.lab.study.sweep import Sweep
from tests.lab.made_up import played
from tests.lab.unplayed import prepared_of, record, study_of

NAMES = ("lora", "oft", "ia3", "dora")


@pytest.fixture(scope="module")
def effects() -> Effects:
    gains = {"lora": 0.25, "oft": 0.244, "ia3": 0.235, "dora": 0.2}
    return Effects.of(played(NAMES, gains=gains, noise=0.006))


def test_all_pairs_are_corrected_together(effects):
    """By statsmodels' Holm over the p-values of the six pairs."""
    pairs = PairTable.of(effects, NAMES)
    assert list(pairs.effects) == list(itertools.combinations(NAMES, 2))
    assert pairs.names == NAMES
    assert pairs.smallest == 0.005
    raw = [effect.p for effect in pairs.effects.values()]
    assert list(pairs.adjusted.values()) == pytest.approx(list(multipletests(raw, method="holm")[1]))
    for (a, b), effect in pairs.effects.items():
        assert effect.mean == pytest.approx(effects.gained(a, "in_domain").mean - effects.gained(b, "in_domain").mean)


def table(**pairs: tuple[list[float], float]) -> PairTable:
    """A table of a first contestant `best` against others: differences, and the adjusted p-value."""
    return PairTable(
        ("best", *pairs),
        {("best", name): paired(differences) for name, (differences, _) in pairs.items()},
        {("best", name): p for name, (_, p) in pairs.items()},
        0.005,
    )


def test_other_contestants_are_grouped_as_behind_same_or_unknown():
    near, apart = [0.001, -0.001, 0.0005, 0.0], [0.02, 0.021, 0.019, 0.02]
    pairs = table(a=(apart, 0.0499), b=(near, 0.3), c=(apart, 0.05), d=([0.01, -0.02, 0.03, 0.0], 0.9), e=(near, 0.01))
    assert equivalence(paired(near), 0.005) < SIGNIFICANT
    assert Lead.of(pairs) == Lead(behind=("a", "e"), same=("b",), unknown=("c", "d"))
    assert Lead.of(PairTable(("best",), {}, {}, 0.005)) == Lead()
    assert Lead.of(PairTable((), {}, {}, 0.005)) == Lead()


def test_a_significant_negative_difference_is_no_lead():
    """The ranking may have the other sign, since it uses runs whose seeds the other contestant has not finished."""
    behind = [-0.02, -0.021, -0.019, -0.02]
    assert Lead.of(table(a=(behind, 0.001))) == Lead(unknown=("a",))


@pytest.mark.parametrize(
    ("lead", "clause"),
    [
        (Lead(), ""),
        (Lead(same=("a",)), ", as good as a (within 0.005)"),
        (Lead(unknown=("a", "b")), ", but no lead over another adapter can be told from chance"),
        (
            Lead(same=("a",), unknown=("b",)),
            ", but as good as a (within 0.005); no lead over another adapter can be told from chance",
        ),
        (
            Lead(behind=("a", "b")),
            ", and its lead over each of the other 2 is real (p < 0.05, Holm over all pairs)",
        ),
        (Lead(behind=("a",), unknown=("b",)), ", ahead of all but b, which cannot be told from it"),
        (Lead(behind=("a",), same=("b", "c")), ", as good as b and c (within 0.005), and ahead of all others"),
        (
            Lead(behind=("a",), same=("b",), unknown=("c", "d", "e")),
            ", as good as b (within 0.005), and ahead of all others but c, d and e, which cannot be told from it",
        ),
    ],
)
def test_a_lead_in_words(lead, clause):
    assert lead.clause(0.005) == clause


def test_names_are_enumerated_in_english():
    assert listed(["a"]) == "a"
    assert listed(["a", "b"]) == "a and b"
    assert listed(["a", "b", "c"]) == "a, b and c"


def comparison(differences: list[float], metric: str = "in_domain", **by_task: list[float]) -> Comparison:
    effect = paired(differences)
    return Comparison(
        METRICS[metric],
        tuple(by_task) or ("prose",),
        None,
        (Side("lora", {}, 1, ""), Side("oft", {}, 1, "")),
        {task: paired(found) for task, found in by_task.items()},
        effect,
        equivalence(effect, 0.005),
        1.0,
    )


def test_a_comparison_in_words():
    assert comparison([0.25]).sentence.startswith("In the one pair of runs lora is ahead by 0.25 nats per byte;")
    assert comparison([-0.25]).sentence.startswith("In the one pair of runs oft is ahead by 0.25 nats per byte;")
    ahead = [0.02, 0.021, 0.019, 0.02]
    found = paired(ahead)
    said = (
        f"lora is better than oft on prose, by {found.low:.3g} to {found.high:.3g} nats per byte (loss, in-domain): "
        f"the difference is real (p = {found.p:.2g})."
    )
    assert comparison(ahead).sentence == said
    behind = comparison([-x for x in ahead]).sentence
    assert behind == said.replace("lora is better than oft", "oft is better than lora")
    near = [0.001, -0.001, 0.0005, 0.0]
    even = comparison(near).sentence
    assert even.startswith("lora and oft are as good as each other on prose")
    assert f"(p = {equivalence(paired(near), 0.005):.2g})" in even
    unknown = [0.03, -0.02, 0.01]
    said = comparison(unknown).sentence
    assert said.startswith("Between lora and oft no difference can be told from chance on prose (p = ")
    assert f"{max(abs(paired(unknown).low), paired(unknown).high):.3g} nats per byte" in said
    assert comparison([x - 0.02 for x in unknown]).sentence.count(f"{-paired(unknown).low + 0.02:.3g} nats") == 1
    # Steps are on no scale on which the smallest difference that matters is stated.
    assert "no difference can be told" in comparison(near, "steps_to_reference").sentence


def test_differences_on_single_tasks_are_corrected_for_the_number_of_tasks():
    a, b = [0.02, 0.021, 0.019], [-0.02, -0.021, -0.019]
    both = comparison([0.03, -0.02, 0.01], prose=a, restyle=b).sentence
    assert both.endswith(" Task by task, lora is better on prose and oft is better on restyle.")
    assert "Task by task" not in comparison([0.03, -0.02, 0.01], prose=a).sentence
    weak = [0.01, 0.02, 0.03]
    assert 2 * paired(weak).p > 0.05
    assert "Task by task" not in comparison([0.03, -0.02, 0.01], prose=weak, restyle=[0.03, -0.02, 0.01]).sentence


LOSSES = {"lora": [0.60, 0.61, 0.64], "ia3": [0.70, 0.74, 0.72]}
STUDY = study_of(
    contestants=tuple(Contestant(adapter=name, start=1e-2) for name in ("lora", "ia3", "oft")),
    tasks=("prose", "restyle"),
    sweep=Sweep(budgets=(800, 2000)),
    report=Reporting(seeds=(1, 2, 3), windows=16, curve_every=5),
)


def loss(contest, trial) -> float:
    """LoRA ahead by more on restyle; OFT diverges at every rate."""
    if contest.adapter is None:
        return 1.0
    if contest.contestant == "oft":
        return math.inf
    found = LOSSES[contest.contestant][trial.seed - 1] if trial.seed < 100 else abs(math.log10(trial.lr / 1e-2))
    return found - (0.1 if (contest.contestant, trial.task) == ("lora", "restyle") else 0)


@pytest.fixture(scope="module")
def prepared():
    return prepared_of(STUDY)


@pytest.fixture(scope="module")
def ledger(prepared, tmp_path_factory) -> Ledger:
    ledger = Ledger(tmp_path_factory.mktemp("pairs") / "ledger.sqlite")
    record(ledger, prepared, loss)
    return ledger


def test_a_comparison_is_of_the_reported_runs(prepared, ledger):
    found = compare(prepared, ledger, ("lora", "ia3"))
    assert (found.tasks, found.budget) == (("prose", "restyle"), 2000)
    assert [(side.contestant, side.parameters, side.flag) for side in found.sides] == [
        ("lora", 900, "below"),
        ("ia3", 900, "below"),
    ]
    assert found.sides[0].rates == {"prose": 1e-2, "restyle": 1e-2}
    differences = [b - a for a, b in zip(LOSSES["lora"], LOSSES["ia3"], strict=True)]
    for task, more in (("prose", 0.0), ("restyle", 0.1)):
        assert found.by_task[task].mean == pytest.approx(sum(differences) / 3 + more)
        assert found.by_task[task].n == 3
        assert found.by_task[task].error >= stats.sem(differences) * (1 - 1e-9)  # the luck of the rate only widens it
    assert found.effect.mean == pytest.approx(sum(differences) / 3 + 0.05)
    assert found.effect.n == 6
    assert found.same == equivalence(found.effect, 0.005)
    assert (found.bayes_factor > 1) == (found.effect.mean > 0.005)
    turned = compare(prepared, ledger, ("ia3", "lora"))
    assert turned.effect.mean == -found.effect.mean
    assert compare(prepared, ledger, ("lora", "ia3"), tasks=["restyle", "restyle"]).tasks == ("restyle",)


def test_a_comparison_at_a_smaller_budget_uses_the_runs_at_that_budget(prepared, ledger):
    found = compare(prepared, ledger, ("lora", "ia3"), at={"budget": 800})
    assert found.budget == 800
    assert [side.flag for side in found.sides] == ["above", "above"]  # 900 parameters in these outcomes


def test_another_metric_has_its_own_unit(prepared, ledger):
    found = compare(prepared, ledger, ("lora", "ia3"), metric="step_time")
    assert (found.metric.name, found.metric.unit) == ("step_time", "milliseconds")
    assert found.effect.mean == 0


WRONG = {
    "lora oft": ({}, "lora and oft have no pair of runs to compare: every rate diverged for oft on prose and"),
    "lora dora": ({}, "dora did not run in study made-up, only lora, ia3, oft"),
    "lora lorra": ({}, "unknown contestant 'lorra' in study made-up: did you mean lora"),
    "lora lora": ({}, "lora cannot be compared with itself"),
    "lora ia3": ({"metric": "los"}, "unknown metric 'los'"),
    "ia3 lora": ({"tasks": ["facts"]}, "unknown task 'facts' in study made-up"),
    "oft ia3": ({"at": {"budget": 900}}, "900.*800, 2,000"),
    "ia3  lora": ({"metric": "peak_memory"}, "ia3 and lora have no pair of runs to compare in peak memory"),
}


@pytest.mark.parametrize("names", WRONG)
def test_a_comparison_that_cannot_be_made_says_why(names, prepared, ledger):
    options, message = WRONG[names]
    with pytest.raises(AdapterlabError, match=message):
        compare(prepared, ledger, tuple(names.split()), **options)


def test_a_comparison_needs_only_the_contests_that_it_compares(prepared, tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    wanted = lambda c, t: t.task == "prose" and c.contestant != "oft"  # noqa: E731
    record(ledger, prepared, loss, until=lambda c, t: wanted(c, t) and (c.contestant != "ia3" or t.seed != 3))
    with pytest.raises(AdapterlabError, match=r"ia3 on prose is not finished \(report 2/3\).*`adapterlab run mine`"):
        compare(prepared, ledger, ("lora", "ia3"), tasks=["prose"], command="adapterlab run mine")
    record(ledger, prepared, loss, until=wanted)
    assert compare(prepared, ledger, ("lora", "ia3"), tasks=["prose"]).effect.n == 3
    with pytest.raises(AdapterlabError, match=r"lora on restyle is not finished \(waiting\)"):
        compare(prepared, ledger, ("lora", "ia3"))


def test_losses_of_different_units_are_not_averaged(tmp_path):
    prepared = prepared_of(study_of(tasks=("prose", "steer")))
    ledger = Ledger(tmp_path / "ledger.sqlite")
    record(ledger, prepared)
    with pytest.raises(
        AdapterlabError, match="prose and steer are scored in nats of log-odds per byte and nats per byte"
    ):
        compare(prepared, ledger, ("lora", "ia3"))
    steer = compare(prepared, ledger, ("lora", "ia3"), tasks=["steer"])
    assert steer.metric == replace(METRICS["in_domain"], unit="nats of log-odds per byte")
    assert compare(prepared, ledger, ("lora", "ia3"), metric="step_time").metric.unit == "milliseconds"
