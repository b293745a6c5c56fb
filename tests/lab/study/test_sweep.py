"""The factors of a study: its cells, what they change, and what is said of a wrong sweep."""

from __future__ import annotations

import pytest

from adapterlab.errors import AdapterlabError
from adapterlab.lab.run.locate import open_study, record_study
from adapterlab.lab.study.as_toml import as_toml
from adapterlab.lab.study.spec import Contestant, Study
from adapterlab.lab.study.sweep import Cell, Sweep
from tests.lab.study.test_spec import GOOD, load

SIZED = GOOD.replace("budget = 1000\n", "")


def words(sweep: Sweep) -> list[str]:
    return [cell.words for cell in sweep.cells]


def test_one_factor_at_a_time_changes_and_the_main_cell_comes_last():
    sweep = Sweep(steps=(20, 40, 80), targets=("all-linear", ("q_proj", "v_proj")))
    assert words(sweep) == [
        "20 steps, targets all-linear",
        "40 steps, targets all-linear",
        "80 steps, targets q_proj+v_proj",
        "80 steps, targets all-linear",
    ]
    assert sweep.count == len(sweep.cells) == 4
    assert sweep.main == sweep.cells[-1]


def test_a_factorial_sweep_has_every_combination_once():
    sweep = Sweep(steps=(20, 40), rank=(2, 8, 32), models=("embedded", "other"), design="factorial")
    assert sweep.count == len(set(sweep.cells)) == 12
    assert dict(sweep.main.levels) == {"steps": 40, "rank": 32, "model": "embedded"}


def test_a_study_without_a_sweep_is_its_own_only_cell(tmp_path):
    study = load(tmp_path, GOOD)
    assert study.sweep.cells == (Cell(),)
    assert study.at(Cell()) is study


def test_the_studys_own_keys_are_those_of_the_main_cell(tmp_path):
    study = load(
        tmp_path, SIZED + '\n[sweep]\nsteps = [20, 40]\nbudgets = [500, 900]\nmodels = ["embedded", "other"]\n'
    )
    assert (study.training.steps, study.budget, study.model) == (40, 900, "embedded")
    assert study.at(study.sweep.main).model_dump(exclude={"sweep"}) == study.model_dump(exclude={"sweep"})
    assert [study.at(c).training.steps for c in study.sweep.cells] == [20, 40, 40, 40]
    assert [study.at(c).model for c in study.sweep.cells] == ["embedded", "other", "embedded", "embedded"]
    assert [study.at(c).budget for c in study.sweep.cells] == [900, 900, 500, 900]


def test_rank_and_targets_change_the_contestants_that_leave_them_open():
    entries = (
        Contestant(adapter="lora"),
        Contestant(adapter="lora", label="own", settings={"rank": 3}, targets=("q_proj",)),
        Contestant(adapter="lora", label="sized", budget=500),
        Contestant(adapter="oft"),
        Contestant(adapter="prefix"),
    )
    study = Study(
        name="s", tasks=("prose",), contestants=entries, sweep=Sweep(rank=(2, 8), targets=("all-linear", "query"))
    )
    (cell,) = [c for c in study.sweep.cells if c.by_factor == {"rank": 8, "targets": "query"}]
    found = {entry.name: (entry.settings, entry.targets) for entry in study.at(cell).entrants}
    assert found == {
        "lora": ({"rank": 8}, "query"),
        "own": ({"rank": 3}, ("q_proj",)),
        "sized": ({}, "query"),
        "oft": ({}, "query"),
        "prefix": ({}, "all-linear"),  # it adapts no linear layers
        "full_ft": ({}, "all-linear"),
    }


def test_a_recorded_study_reads_as_it_was(tmp_path):
    study = load(tmp_path, SIZED + '\n[sweep]\nsteps = [20, 40]\nrank = [2, 8]\ntargets = ["all-linear", ["q_proj"]]\n')
    record_study(study, tmp_path)
    (tmp_path / "ledger.sqlite").write_bytes(b"")
    assert open_study(tmp_path)[0] == study


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("steps = []", r"study\.toml:14: sweep\.steps: give two or more levels, or leave the factor out"),
        ("steps = [20]", r"study\.toml:14: sweep\.steps: give two or more levels"),
        (
            "rank = [8, 2]",
            r"study\.toml:14: sweep\.rank: the levels do not rise: give each level once",
        ),
        ("rank = [2, 2]", r"study\.toml:14: sweep\.rank: the levels do not rise"),
        ('targets = ["query", "query"]', r"sweep\.targets: give each level once"),
        ('targets = ["query", []]', r"sweep\.targets"),
        ("steps = [0, 2]", r"study\.toml:14: sweep\.steps\.0: .*greater than or equal to 1"),
        ("steps = 20", r"study\.toml:14: sweep\.steps"),
        ("step = [1, 2]", r"unknown setting 'step' in .*study\.toml:14: did you mean steps"),
        ("rank = [2, 8]\nbudgets = [100, 200]", r"sweep: rank and budgets both set the size"),
        (
            f"steps = {list(range(1, 99))}\nrank = [2, 4, 8, 16]",
            r"sweep: the sweep has 101 cells, more than 100",
        ),
        (
            'design = "factorial"\nsteps = [1, 2, 3, 4, 5]\nrank = [1, 2, 3, 4, 5]\nmodels = ["a", "b", "c", "d", "e"]',
            'has 125 cells, more than 100: give fewer levels, or design = "one-at-a-time"',
        ),
    ],
)
def test_a_wrong_sweep_is_named_with_its_line_and_mend(tmp_path, sweep, message):
    with pytest.raises(AdapterlabError, match=message):
        load(tmp_path, f"{SIZED.strip()}\n[sweep]\n{sweep}\n")


@pytest.mark.parametrize(
    ("head", "sweep", "message"),
    [
        (
            "budget = 7",
            "budgets = [1, 2]",
            r"budget is 7, but the largest level of sweep\.budgets is 2: leave budget out",
        ),
        (
            "budget = 7",
            "rank = [1, 2]",
            r"sweep\.rank and budget both set the size of the contestants: give one of them",
        ),
        (
            'model = "x"',
            'models = ["a", "b"]',
            r"model is 'x', but the first level of sweep\.models is 'a': leave",
        ),
        (
            "training = { steps = 60 }",
            "steps = [20, 40]",
            r"training\.steps is 60, but the largest level of sweep\.steps is 40: leave training\.steps out",
        ),
    ],
)
def test_a_swept_factor_that_is_also_given_otherwise_is_named(tmp_path, head, sweep, message):
    with pytest.raises(AdapterlabError, match=message):
        load(tmp_path, GOOD.replace("budget = 1000", head) + f"\n[sweep]\n{sweep}\n")


def test_steps_that_agree_with_the_sweep_are_no_mistake(tmp_path):
    text = GOOD.replace("budget = 1000", "training = { steps = 40 }") + "\n[sweep]\nsteps = [20, 40]\n"
    assert load(tmp_path, text).training.steps == 40


@pytest.mark.parametrize(
    ("entry", "sweep", "message"),
    [
        ('adapter = "oft"', "rank = [2, 8]", r"study\.toml:\d+: sweep\.rank changes nothing: the size of none"),
        ('adapter = "lora"\nbudget = 500', "rank = [2, 8]", r"sweep\.rank changes nothing"),
        (
            'adapter = "lora"\ntargets = "query"',
            'targets = ["query", "key"]',
            r"sweep\.targets changes nothing: none of",
        ),
        ('adapter = "ia3"', "budgets = [100, 200]", r"sweep\.budgets changes nothing: none of"),
    ],
)
def test_a_factor_that_changes_no_contestant_is_named(tmp_path, entry, sweep, message):
    name = entry.split('"')[1]
    text = f'name = "s"\ntasks = ["prose"]\nreference = "{name}"\n[sweep]\n{sweep}\n[[contestants]]\n{entry}\n'
    with pytest.raises(AdapterlabError, match=message):
        load(tmp_path, text)


SIZED_BY_MODEL = '\n[sweep]\nmodels = ["embedded", "other/1m"]\nmodel_budgets = { embedded = 900, "other/1m" = 500 }\n'


def test_each_model_may_have_its_own_budget(tmp_path):
    study = load(tmp_path, SIZED + SIZED_BY_MODEL)
    assert [(study.at(c).model, study.at(c).budget) for c in study.sweep.cells] == [
        ("other/1m", 500),
        ("embedded", 900),
    ]
    assert study.budget == 900
    again = load(tmp_path, as_toml(study))
    assert again == study


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SIZED_BY_MODEL.replace('"other/1m" = 500', "nowhere = 500"), "must name the models of the sweep"),
        (SIZED_BY_MODEL.replace(', "other/1m" = 500', ""), "must name the models of the sweep"),
        (SIZED_BY_MODEL.replace("models = ", "targets = "), "must name the models of the sweep"),
        (SIZED_BY_MODEL + "budgets = [500, 900]\n", "give one of them"),
        (SIZED_BY_MODEL + "rank = [2, 4]\n", "give one of them"),
        (SIZED_BY_MODEL.replace("500", "0"), "greater than"),
        (SIZED_BY_MODEL.replace("500", '"many"'), "valid integer"),
    ],
)
def test_wrong_budgets_of_models_are_named(tmp_path, text, says):
    with pytest.raises(AdapterlabError, match=says):
        load(tmp_path, SIZED + text)


def test_a_budget_beside_those_of_the_models_is_refused_unless_it_is_the_main_one(tmp_path):
    assert load(tmp_path, GOOD.replace("budget = 1000", "budget = 900") + SIZED_BY_MODEL).budget == 900
    with pytest.raises(AdapterlabError, match=r"budget is 800, but sweep.model_budgets has 900 for embedded"):
        load(tmp_path, GOOD.replace("budget = 1000", "budget = 800") + SIZED_BY_MODEL)
