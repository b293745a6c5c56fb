"""The commands on evidence, and the page that shows them."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapterlab.cli import app
from adapterlab.errors import AdapterlabError
from adapterlab.evidence import Store
from adapterlab.evidence.cells import cells_of
from adapterlab.evidence.tuning import seeming_gain, tuning_loss
from adapterlab.verdict import relevance
from tests.lab.filled import fill

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "evidence.md").read_text()
COMMANDS = [line.split("#")[0].strip("$ ") for line in re.findall(r"^\$ .*", PAGE, re.MULTILINE)]
MINE = re.search(r"```\n(model,.*?)```", PAGE, re.DOTALL)[1]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "mine.csv").write_text(MINE)
    return tmp_path


def invoke(command):
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    if isinstance(result.exception, Exception):
        raise result.exception
    return result.stdout


@pytest.mark.parametrize("command", [c for c in COMMANDS if not c.startswith("adapterlab run") and "runs/" not in c])
def test_a_command_of_the_page_runs_in_eighty_columns(command, place):
    printed = invoke(command)
    assert printed
    assert max(map(len, printed.splitlines())) <= 80


def test_a_study_of_ones_own_becomes_a_table_and_moves_claims(place):
    from adapterlab.lab.study.load import load_study
    from adapterlab.models.loading import load_causal

    study = load_study(ROOT / "studies/quick.toml")
    (place / "runs/quick").mkdir(parents=True)
    fill(place / "runs/quick", study, load_causal().model, lambda c, t: 1 + 0.01 * len(c.contestant) * t.seed)
    assert "quick: evidence/quick.csv" in invoke("adapterlab evidence add runs/quick")
    assert re.search(r"^quick +", invoke("adapterlab evidence"), re.MULTILINE)
    assert len(next(t for t in Store(place / "evidence").tables if t.source == "quick").scores) > 20


def test_options_of_the_run_command_are_the_programs_own():
    (command,) = [c for c in COMMANDS if c.startswith("adapterlab run")]
    shown = invoke("adapterlab run --help")
    assert all(option in shown for option in re.findall(r"--\w+", command))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("adapterlab evidence compare lora lora", "compared with itself"),
        ("adapterlab evidence compare lora pissa --metric width", "unknown metric 'width' in the tables"),
        ("adapterlab evidence carry --metric tenth_of_data", "fewer than two models"),
        ("adapterlab evidence add nothing.csv", "nothing.csv cannot be read"),
        ("adapterlab evidence compare lora pissa --store mine.csv", "mine.csv is no folder"),
    ],
)
def test_a_mistake_is_one_line(command, message, place):
    with pytest.raises(AdapterlabError, match=re.escape(message)) as error:
        invoke(command)
    assert "\n" not in str(error.value)


def test_methods_that_nobody_compared_are_no_error(place):
    assert "No table has pissa and randlora" in invoke("adapterlab evidence compare pissa randlora")


def test_the_pages_figures_are_those_of_the_tables():
    loss = tuning_loss(cells_of(Store().scores))
    assert f"loses {loss.mean:.1f} points on average (standard deviation {loss.sd:.1f}; {loss.pairs} pairs)" in flat()
    own, rival = seeming_gain(loss, "pissa", "lora")
    assert f"PiSSA loses {rival:.1f} at LoRA's rate, LoRA {own:.1f} at PiSSA's" in flat()
    for parameters, examples in ((4_262_144, 160), (134_515_008, 160), (1e10, 160)):
        assert f"| {relevance(parameters, examples):.2f} |" in PAGE


def flat():
    return " ".join(PAGE.split())
