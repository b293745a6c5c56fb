"""The studies that come with the program: sound, sized to the embedded model, and able to test what they say they test."""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise

import pytest

from adapterlab import argmap
from adapterlab.lab.run.sizing import size_at, size_to_budget
from adapterlab.lab.study.load import load_study
from adapterlab.lab.study.spec import FULL_FT, Study
from adapterlab.models.loading import load_causal
from adapterlab.resources import shipped
from adapterlab.surgery import parameter_count
from adapterlab.verdict.check_tests import read_tests
from adapterlab.verdict.claims import BY_GEOMETRY, Form, Rate, Reverses, Trend, read_test
from adapterlab.verdict.geometry_forms import Projects
from adapterlab.verdict.wanted import Wanted
from tests.adapters.methods import SHIPPED

FOLDER = shipped("studies", "quick.toml").parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.toml"))
ELSEWHERE = ["biases", "rerun", "scale", "sweep"]
"""Studies of single claims, which need a model of their own, several models, or a sweep."""
THEMES = ["boundary", "decoupled", "functional", "gain", "orthogonal", "rank", "shared", "svd"]


def study(name: str) -> Study:
    return Study.model_validate(tomllib.loads((FOLDER / f"{name}.toml").read_text()))


@pytest.fixture(scope="module")
def model():
    return load_causal().model


@pytest.fixture(scope="module")
def the_map():
    return argmap.load(shipped("maps", "natural_manifold.argdown"))


def test_there_is_one_for_each_theme_and_one_for_all():
    assert sorted([*THEMES, *ELSEWHERE, "breadth", "full", "geometry", "quick", "real", "sizes"]) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_it_loads_under_its_own_name(name):
    assert load_study(FOLDER / f"{name}.toml").name == name


@pytest.mark.parametrize("name", [name for name in NAMES if name != "biases"])
def test_its_contestants_fit_the_embedded_model_near_the_budget(name, model):
    """What has a size is above the budget only at its least; the smallest and the largest budget are looked at."""
    swept = study(name)
    for cell in dict.fromkeys([swept.sweep.cells[0], swept.sweep.main]):
        part = swept.at(cell)
        for entry in part.entrants:
            budget = entry.budget or part.budget
            adapter = size_to_budget(entry, model, budget).adapter
            if (
                budget
                and adapter.size_knob
                and adapter.counted(parameter_count(model, adapter, entry.targets)) > budget
            ):
                least = size_to_budget(entry, model, 1).adapter
                assert adapter == least, entry.name


@pytest.mark.parametrize("name", NAMES)
def test_it_gives_a_reason_where_it_departs_from_the_defaults(name):
    """A contestant with settings, targets or a budget of its own has a comment before it."""
    blocks = (FOLDER / f"{name}.toml").read_text().split("[[contestants]]")
    for before, block in pairwise(blocks):
        (entry,) = tomllib.loads("[[contestants]]" + block)["contestants"]
        if entry.keys() & {"settings", "targets", "budget"}:
            assert before.rstrip().splitlines()[-1].startswith("# "), entry


def present(name: str, asked: Study) -> bool:
    """True if the study has the contestant that a test names."""
    wanted = Wanted.parse(name)
    if not wanted.settings:
        return wanted.name in {entry.name for entry in asked.entrants}
    return any(e.adapter == wanted.name and dict(wanted.settings).items() <= e.settings.items() for e in asked.entrants)


HAVE_NO_SIZE = {"goft", "road"}
"""Methods of a fixed size, which is a small share of the budget."""


def small_enough(test: Form, asked: Study) -> bool:
    """True if the study has the first contestant at the share of the budget that the claim is about."""
    first, _ = test.contestants()
    budgets = [e.budget or asked.budget for e in asked.entrants if e.adapter == first]
    return first in HAVE_NO_SIZE or min(budgets) <= 1.1 * test.share_of_size * asked.budget


@pytest.mark.parametrize("name", [*THEMES, *ELSEWHERE])
def test_it_asks_a_question_and_holds_the_contests_of_the_claims_that_it_names(name):
    text, asked = (FOLDER / f"{name}.toml").read_text(), study(name)
    file = re.search(r"maps/(\w+\.argdown)", text)[1]
    the_map = argmap.load(shipped("maps", file))
    assert asked.title.endswith("?")
    comment = " ".join(line.removeprefix("#").strip() for line in text.split("name =")[0].splitlines())
    claims = re.findall(r"\[([^\]]+)\]", comment.split("]. ")[0] + "]")
    assert claims
    for claim in claims:
        assert the_map.tests.get(claim), f"{claim} has no test in the map"
        test = read_test(claim, the_map.tests[claim])
        assert all(present(name, asked) for name in test.contestants()), claim
        assert set(test.tasks) <= set(asked.tasks), claim
        for part in test.parts:
            assert part.share_of_size is None or small_enough(part, asked), claim
            assert part.metric != "tenth_of_data" or asked.report.tenth_of_data, claim
            assert not isinstance(part, Reverses) or -1 in asked.report.path, claim
            along = part.along if isinstance(part, Trend | Rate) else None
            assert along in (None, *asked.sweep.factors), claim
            assert getattr(part, "at", None) is None or len(asked.report.path) > 2, claim


def test_the_study_of_geometry_measures_what_the_claims_that_it_names_ask_for(the_map):
    text, asked = (FOLDER / "geometry.toml").read_text(), study("geometry")
    comment = " ".join(line.removeprefix("#").strip() for line in text.split("name =")[0].splitlines())
    tests = read_tests(the_map, kind=BY_GEOMETRY)
    assert sorted(re.findall(r"\[([^\]]+)\]", comment)) == sorted(tests)
    for claim, test in tests.items():
        assert set(test.contestants()) <= set(asked.geometry.of), claim
        assert set(test.tasks) <= set(asked.tasks), claim
        if isinstance(test, Projects):
            assert set(test.hypotheses) <= set(asked.geometry.hypotheses), claim
        else:
            assert test.measure in (None, *asked.geometry.measures), claim


def test_each_testable_claim_of_a_theme_is_in_a_study_of_it(the_map):
    named = " ".join((FOLDER / f"{name}.toml").read_text() for name in [*THEMES, *ELSEWHERE])
    assert [claim for claim in the_map.tests if f"[{claim}]" not in named] == []


def test_every_claim_of_the_second_map_that_can_be_tested_is_in_its_study():
    second = argmap.load(shipped("maps", "recent_findings.argdown"))
    named = re.findall(r"\[([^\]]+)\]", (FOLDER / "rerun.toml").read_text().split("name =")[0])
    assert sorted(named) == sorted(second.tests)


ON_NO_MAP = {"frod", "hira", "gralora"}
"""Methods that the argument map makes no claim about yet."""


def test_the_full_study_has_every_adapter_that_can_train_on_the_model_and_every_claims_contest(the_map):
    full = study("full")
    assert {c.adapter for c in full.contestants} == set(SHIPPED) - {FULL_FT, "bitfit"} - ON_NO_MAP
    assert len(full.sweep.budgets) == 3
    assert set(full.tasks) == {"restyle", "prose", "facts", "algorithm", "steer"}
    for claim, data in the_map.tests.items():
        test = read_test(claim, data)
        if "bitfit" not in test.contestants():
            assert all(present(name, full) for name in test.contestants()), claim
            assert set(test.tasks) <= set(full.tasks), claim


def test_the_sweep_keeps_the_rank_that_it_asks_for_on_the_embedded_model(model):
    swept = study("sweep")
    for cell in swept.sweep.cells:
        rank = cell.by_factor["rank"]
        for entry in swept.at(cell).entrants:
            found = size_at(entry, model, None, rank)
            assert getattr(found.adapter, "rank", rank) == rank
            assert not found.note


def test_the_quick_study_costs_what_its_page_says():
    """Steps if no search grows: five rates at half the length, two at the whole, the reported runs, and the regret."""
    quick = study("quick")
    steps, runs = quick.training.steps, len(quick.report.seeds)
    regret = len(quick.regret_sample) * 3 * len(quick.tuning.regret_seeds) * steps
    assert len(quick.tasks) * (len(quick.entrants) * (5 * steps // 2 + 2 * steps + runs * steps) + regret) == 5160
