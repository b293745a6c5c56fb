"""The power of a study, computed before it runs: against the noncentral t distribution, and against simulated studies."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from adapterlab.adapters import adapter
from adapterlab.lab.analysis.noise_model import QUICK, fit_noise
from adapterlab.lab.analysis.power import Power, power_of
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.contest import make_contests
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.study.spec import Contestant, Reporting, Study
from adapterlab.lab.trial.spec import Outcome
from adapterlab.report.progress import show_warning

STUDY = Study(
    name="made-up",
    tasks=("prose", "restyle"),
    contestants=tuple(Contestant(adapter=name) for name in ("lora", "oft", "ia3")),
    full_ft=False,
    full_ft_reason="not needed",
)
RESOLVED = resolve(STUDY.model_copy(update={"contestants": STUDY.contestants[:2]}))


def power(**report) -> Power:
    return power_of(resolve(STUDY.model_copy(update={"report": Reporting(**report)})))


@pytest.mark.parametrize("df", [4, 20, 300])
@pytest.mark.parametrize("difference", [0.0, 0.004, 0.012])
def test_it_is_the_noncentral_t_distribution(df, difference):
    found = Power(0.003, df, 6, 0.01, "made up")
    critical = stats.t.ppf(1 - 0.05 / 2 / 6, df)
    shift = difference / 0.003
    expected = stats.nct.sf(critical, df, shift) + stats.nct.cdf(-critical, df, shift)
    assert found.of(difference) == pytest.approx(expected, abs=2e-4)
    assert found.of(found.smallest_found) == pytest.approx(0.8, abs=1e-3)
    assert found.half_width == pytest.approx(stats.t.ppf(0.975, df) * 0.003)


def test_more_seeds_and_more_rows_find_more(monkeypatch):
    for task, rows in (("prose", 0.03), ("restyle", 0.0)):
        monkeypatch.setitem(QUICK, task, replace(QUICK[task], rows=rows))
    few, seeds, rows = power(windows=8), power(windows=8, seeds=range(1, 9)), power(windows=64)
    assert few.pairs == 3
    assert seeds.smallest_found < few.smallest_found
    assert rows.smallest_found < few.smallest_found
    # The rows' part is known in closed form; the seeds' part is the same in both.
    assert few.error**2 - rows.error**2 == pytest.approx(0.03**2 / 4 * (1 / 8 - 1 / 64), rel=1e-6)


def test_the_rate_of_detection_in_simulated_studies_is_the_power():
    """Normal numbers with the error and the degrees of freedom stated, tested as the scoreboard would."""
    found = Power(0.003, 12, 10, 0.01, "made up")
    rng = np.random.default_rng(0)
    estimates = rng.normal(found.smallest_found, 0.003, 20_000)
    errors = 0.003 * np.sqrt(rng.chisquare(12, 20_000) / 12)
    p = 2 * stats.t.sf(np.abs(estimates) / errors, 12)
    assert (p * 10 < 0.05).mean() == pytest.approx(0.8, abs=0.01)


def test_a_study_that_can_find_nothing_says_so(capsys):
    single = power(seeds=(1,))
    assert single.error > 0
    hopeless = replace(single, error=0.02)
    assert hopeless.finds_nothing
    show_warning(hopeless, Console(width=80))
    said = " ".join(capsys.readouterr().out.split())
    assert "This study can hardly find anything: a difference of 0.01, a typical one, would be found in" in said
    show_warning(power(), Console(width=80))
    assert capsys.readouterr().out == ""


def test_an_unknown_error_finds_nothing():
    unknown = Power(math.inf, 1.0, 1, 0.01, "made up")
    assert (unknown.of(1.0), unknown.smallest_found, unknown.half_width) == (0.0, math.inf, math.inf)
    assert unknown.finds_nothing


def test_too_few_trials_leave_the_quick_studys_noise(tmp_path):
    assert power_of(resolve(STUDY), Ledger(tmp_path / "ledger.sqlite")).noise == "that of the quick study"


def test_the_noise_of_rows_is_that_of_differences(tmp_path):
    """Two contestants whose rows differ by normal numbers of a known spread, the same for every seed."""
    rng = np.random.default_rng(1)
    rows = {"lora": rng.normal(1.0, 0.3, 4000), "oft": rng.normal(1.0, 0.3, 4000)}
    rows["oft"] = rows["lora"] + rng.normal(0, 0.02, 4000)

    made = RESOLVED.study.model_copy(update={"tasks": ("prose",)})
    contests = {
        c.contestant: c
        for c in make_contests(replace(RESOLVED, study=made), {name: adapter(name) for name in ("lora", "oft")})
    }

    def outcome(losses):
        mean = float(np.mean(losses))
        scores = dict.fromkeys(("validation", "test"), (mean, 0.5))
        return Outcome("ok", scores, (), 1, 1.0, 0.0, rows={"test": tuple(losses)})

    found = [(contests["frozen"].frozen_trial(), outcome(np.full(4000, 1.2)), {})]
    for name, losses in rows.items():
        trial = contests[name].trial
        found += [(trial(lr, 101, 40, reported=False), outcome(losses + lr), {}) for lr in (1e-3, 1e-2)]
        found += [(trial(1e-3, s, 40, reported=True), outcome(losses + rng.normal(0, 1e-3)), {}) for s in (1, 2)]
    assert fit_noise(found)["prose"].rows == pytest.approx(0.02, rel=0.05)
