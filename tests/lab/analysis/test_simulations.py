"""Simulated studies with effects far below or above the noise, so that the result is certain."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from adapterlab.errors import AdapterlabError
from adapterlab.lab.analysis import calibration
from adapterlab.lab.analysis.calibration import (
    PLANTED,
    TWIN,
    DetectionRates,
    calibrate,
    detection_rates,
    simulate,
    twins,
)
from adapterlab.lab.analysis.noise_model import QUICK, Noise, World
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.study.spec import Contestant
from tests.lab.unplayed import study_of

STUDY = study_of("lora", "oft", "ia3")
NOISE = {task: Noise(1.2, 0.05, 20, 0.5, 0.0, 0.001, 0.001) for task in ("prose", "restyle")}
"""No rate is better than another, so the search adds nothing."""
QUIET = {task: dataclasses.replace(noise, own=1e-6, shared=1e-6) for task, noise in NOISE.items()}


def shares(found: DetectionRates) -> tuple[float, ...]:
    return found.interval, found.holm, found.lead, found.across, found.same


@pytest.mark.parametrize("correlated", [True, False])
def test_a_large_effect_is_found_by_every_criterion_and_is_never_the_same(correlated):
    found = detection_rates(STUDY, QUIET, 0.1, correlated=correlated, studies=3)
    assert shares(found) == (1, 1, 1, 1, 0)
    assert (found.effect, found.correlated, found.studies) == (0.1, correlated, 3)


def test_an_effect_far_below_the_smallest_that_matters_is_the_same():
    found = detection_rates(STUDY, QUIET, 1e-4, correlated=False, studies=3)
    assert found.same == 1
    assert found.interval == 1


def test_a_negative_effect_is_found_by_every_criterion():
    found = detection_rates(STUDY, QUIET, -0.03, correlated=True, studies=3)
    assert shares(found) == (1, 1, 1, 1, 0)


def test_twins_without_noise_are_never_different():
    noise = {task: dataclasses.replace(n, own=0.0, shared=0.0) for task, n in NOISE.items()}
    assert shares(detection_rates(STUDY, noise, 0.0, correlated=True, studies=2)) == (0, 0, 0, 0, 1)


def test_shares_are_of_the_studies_and_follow_from_the_seed():
    loud = {task: dataclasses.replace(noise, own=0.01) for task, noise in NOISE.items()}
    found = detection_rates(STUDY, loud, 0.02, correlated=True, studies=12)
    assert 0 < found.interval < 1
    assert found.interval * 12 == pytest.approx(round(found.interval * 12))
    assert detection_rates(STUDY, loud, 0.02, correlated=True, studies=12) == found
    others = [
        detection_rates(STUDY, loud, 0.02, correlated=True, studies=12, seed=1),
        detection_rates(STUDY, loud, 0.02, correlated=False, studies=12),
    ]
    assert all(shares(other) != shares(found) for other in others)


def test_the_best_rate_is_drawn_within_half_a_step_of_the_grids_middle(monkeypatch):
    centres = []

    class Seen(World):
        def __post_init__(self) -> None:
            super().__post_init__()
            centres.append(self.centre)
            assert self.effects == {TWIN: 0.3}

    monkeypatch.setattr(calibration, "World", Seen)
    detection_rates(STUDY, QUIET, 0.3, correlated=True, studies=12)
    assert len(set(centres)) == 12
    assert all(-2.5 <= centre <= -1.5 for centre in centres)
    assert max(centres) - min(centres) > 0.25
    centres.clear()
    wider = STUDY.model_copy(update={"tuning": STUDY.tuning.model_copy(update={"start": (1e-4, 1e-2, 1.0)})})
    detection_rates(wider, QUIET, 0.3, correlated=True, studies=6)
    assert all(-3 <= centre <= -1 for centre in centres)
    assert max(centres) - min(centres) < 1


def test_twins_have_the_references_settings_and_the_others_names():
    study = study_of(
        contestants=(
            Contestant(adapter="oft"),
            Contestant(adapter="lora", settings={"rank": 2}),
            Contestant(adapter="ia3"),
        )
    )
    found = twins(study).contestants
    assert [entry.name for entry in found] == ["lora", TWIN, "oft"]
    assert all((entry.adapter, entry.settings) == ("lora", {"rank": 2}) for entry in found)
    assert [entry.name for entry in twins(twins(study)).contestants] == ["lora", TWIN]


def test_a_simulated_study_has_every_contest_finished():
    world = World(NOISE, {}, True, np.random.default_rng(0), -2.0)
    results = simulate(resolve(STUDY.model_copy(update={"tasks": tuple(NOISE)})), world)
    assert len(results.contests) == 2 * 4
    assert all(contest.finished for contest in results.contests.values())


@pytest.mark.parametrize(
    ("share", "studies", "low", "high"),
    [(0.05, 200, 0.0242, 0.0900), (0.0, 20, 0.0, 0.1684), (1.0, 20, 0.8316, 1.0), (0.5, 10, 0.1871, 0.8129)],
)
def test_bounds_are_those_of_binom_test_in_r(share, studies, low, high):
    """`binom.test(share * studies, studies)`: with none of n, the upper bound is 1 - 0.025^(1/n)."""
    rates = DetectionRates(0.0, True, studies, share, 0, 0, 0, 0)
    assert rates.bounds(share) == pytest.approx((low, high), abs=1e-4)
    narrow = rates.bounds(share, level=0.5)
    assert low - 1e-4 <= narrow[0] <= narrow[1] <= high + 1e-4


def test_a_calibration_simulates_every_effect_with_both_kinds_of_noise(monkeypatch):
    seen, asked = [], []

    def counted(study, noise, effect, *, correlated, studies):
        asked.append((study, tuple(noise), effect, correlated, studies))
        return DetectionRates(effect, correlated, studies, 0, 0, 0, 0, 0)

    monkeypatch.setattr(calibration, "detection_rates", counted)
    found = calibrate(STUDY, studies=7, watch=seen.append)
    assert PLANTED == (0.0, 0.0025, 0.005, 0.01, 0.02)
    assert seen == [*PLANTED, *PLANTED]
    assert asked == [(STUDY, tuple(QUICK), effect, c, 7) for c in (True, False) for effect in PLANTED]
    assert [(rate.correlated, rate.effect) for rate in found.rates] == [(c, e) for c in (True, False) for e in PLANTED]
    assert (found.study, found.tasks, found.noise_source) == (STUDY, tuple(QUICK), "the quick study's")
    assert calibrate(STUDY).rates[0].studies == 200


def test_the_noise_may_be_that_of_a_ledger(monkeypatch, tmp_path):
    with pytest.raises(AdapterlabError, match="no ledger at"):
        calibrate(STUDY, Path("none.sqlite"))
    path = tmp_path / "ledger.sqlite"
    Ledger(path)
    monkeypatch.setattr(calibration, "fit_noise", lambda ledger: {"prose": NOISE["prose"]})
    found = calibrate(STUDY, path, studies=1)
    assert (found.tasks, found.noise_source) == (("prose",), f"that of {path}")
