"""What the README says works: its Python runs, its commands exist and run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from adapterlab.adapters import adapter
from adapterlab.adapters.base import Adapter
from adapterlab.models.catalogue import CATALOGUE
from adapterlab.models.loading import load
from adapterlab.surgery import attach, sized
from tests.conftest import tiny_llama
from tests.geometry.checkpoints import save_pair
from tests.lab.in_process import use
from tests.lab.tiny import save_model, save_study
from tests.surgery.test_attach import train
from tests.tasks.user_files import completions, write

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]


@pytest.fixture(autouse=True)
def forget_row_gain():
    """The guide's adapter is known in these tests alone."""
    yield
    Adapter.registry.pop("row_gain", None)


AT_ONCE = ("adapterlab map", "adapterlab adapters", "adapterlab explain", "adapterlab evidence")
OF_RESULTS = (
    "adapterlab run --plan",
    "adapterlab status",
    "adapterlab compare",
    "adapterlab export",
    "adapterlab import-trials",
    "adapterlab report --format",
    "adapterlab retry",
)


def run(command: list[str], cwd: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)


def output(*command: str) -> str:
    """Standard output of a command, run in this process because a new one takes seconds to import torch."""
    from adapterlab.cli import app

    result = CliRunner().invoke(app, command[1:])
    assert result.exit_code == 0, result.output + str(result.exception)
    return result.stdout


@pytest.mark.parametrize("code", PYTHON)
def test_its_python_runs(code, tmp_path, monkeypatch, request):
    needs_results = "adapterlab.run(" in code
    monkeypatch.chdir(request.getfixturevalue("place_with_results") if needs_results else tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})


def test_the_adapter_of_the_guide_is_a_whole_one(llama, tokens):
    """One file and no other change: it is made by name, attached, trained, held to its invariants and sized."""
    code = next(code for code in PYTHON if "class RowGain" in code)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    method = adapter("row_gain")
    handle = attach(llama, method)
    train(llama, handle, tokens)
    for site in handle.sites.values():
        before, after = site.base_and_adapted()
        assert not (before == after).all()
        for invariant in method.invariants:
            if not invariant.only_at_start:
                assert invariant.residual(method, site.state, before, after) <= invariant.bound(before.dtype)
    handle.detach()
    assert sized(method, llama, 10**6) == method


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith(AT_ONCE)])
def test_its_quick_commands_run(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert output(*shlex.split(command))


@pytest.fixture(scope="module")
def place_with_results(tmp_path_factory) -> Path:
    """A folder where the quick study has been run, with losses that are made up."""
    from adapterlab.lab.study.load import load_study
    from adapterlab.models.loading import load_causal
    from tests.lab.filled import fill

    place = tmp_path_factory.mktemp("place")
    study = load_study(ROOT / "studies/quick.toml")
    (place / "runs/quick").mkdir(parents=True)
    noise = {1: 0.0, 2: 0.01, 3: 0.03}
    fill(place / "runs/quick", study, load_causal().model, lambda c, t: 1 + len(c.contestant) * noise.get(t.seed, 0.0))
    return place


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith(OF_RESULTS)])
def test_its_commands_that_read_results_run(command, place_with_results, monkeypatch):
    monkeypatch.chdir(place_with_results)
    assert output(*shlex.split(command))


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("adapterlab run") and "--plan" not in c])
def test_its_run_commands_are_the_programs_own_and_the_study_is_there(command):
    """That a study runs from end to end is shown on a tiny model in tests/lab; this one would take minutes."""
    from adapterlab.cli import app
    from adapterlab.lab.study.load import load_study
    from adapterlab.resources import shipped

    _, verb, *arguments = shlex.split(command)
    assert verb == "run"
    path = ROOT / arguments[0] if arguments else shipped("studies", "quick.toml")
    assert load_study(path).name == path.stem
    known = {option for parameter in get_command(app).commands["run"].params for option in parameter.opts}
    assert {argument for argument in arguments if argument.startswith("--")} <= known


def test_a_study_can_name_an_adapter_in_a_file_of_ones_own(tmp_path, monkeypatch):
    code = next(code for code in PYTHON if "class RowGain" in code)
    (tmp_path / "row_gain.py").write_text(code)
    study = save_study(tmp_path)
    text = study.read_text().replace('adapter = "ia3"', 'adapter = "row_gain"')
    study.write_text(text.replace("[training]", 'adapter_files = ["row_gain.py"]\n\n[training]', 1))
    monkeypatch.chdir(tmp_path)
    assert "row_gain" in output("adapterlab", "run", str(study), "--trust")


def test_a_study_of_ones_own_ends_in_a_report_and_a_second_run_says_that_all_is_there(tmp_path, monkeypatch):
    study = save_study(tmp_path)
    first = run([sys.executable, "-m", "adapterlab", "run", str(study)], cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert {p.name for p in (tmp_path / "runs/tiny").iterdir()} >= {"report.html", "verdict.json", "ledger.sqlite"}
    monkeypatch.chdir(tmp_path)
    assert "trials are done; nothing to run" in output("adapterlab", "run", str(study))


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make")])
def test_its_make_targets_do_what_it_says(command):
    plan = run([*shlex.split(command), "-n"]).stdout
    expected = {
        "make run": ".venv/bin/adapterlab run",
        "make test": ".venv/bin/pytest",
        "make soak": ".venv/bin/pytest -n auto --dist loadfile -m soak",
    }[command]
    assert expected in plan


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("adapterlab tune")])
def test_its_tune_commands_run(command, tmp_path, monkeypatch):
    """On a tiny model, with rows as the README shows them, and fewer steps than are useful."""
    rows = [
        json.loads(line) for block in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()
    ]
    cache = tmp_path / "cache"
    save_model(tmp_path / "my-model")
    shutil.copytree(tmp_path / "my-model", cache / "models" / CATALOGUE["smollm2"].folder.name)
    write(tmp_path / "my.jsonl", [*rows, *completions(40)])
    given = shlex.split(command)
    if "--contestants" not in given:
        given += ["--contestants", "lora"]
    monkeypatch.setenv("ADAPTERLAB_CACHE", str(cache))
    monkeypatch.setattr("adapterlab.tuning.planning.MIN_STEPS", 6)
    monkeypatch.chdir(tmp_path)
    use(monkeypatch)
    said = output(*given, "--seeds", "2")
    assert "Take " in said or "No adapter" in said
    (winner,) = (tmp_path / "runs").glob("*-my/winner")
    assert {path.name for path in winner.iterdir()} == {"adapterlab", "peft", "winner.json"}


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("adapterlab models fetch")])
def test_its_fetch_commands_name_models_of_the_catalogue(command):
    """Fetching itself is tested in tests/models."""
    assert shlex.split(command)[3] in CATALOGUE


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("adapterlab rate")])
def test_its_rate_commands_run(command, tmp_path, monkeypatch):
    save_model(tmp_path / "my-model")
    write(tmp_path / "my.jsonl", completions(40))
    monkeypatch.chdir(tmp_path)
    assert output(*shlex.split(command)).startswith("learning rate of hra: ")


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("adapterlab geometry")])
def test_its_geometry_commands_run(command, tmp_path, monkeypatch):
    """On a tiny model, at one small budget."""
    base, tuned = save_pair(tmp_path, tiny_llama(vocab_size=len(load("embedded").tokenizer)))
    for folder, name in ((base, "my-model"), (tuned, "my-tuned-model")):
        load("embedded").tokenizer.save_pretrained(folder)
        folder.rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    said = output(*shlex.split(command), "--budget", "500", "--draws", "2", "--hypotheses", "lora,ia3")
    assert "What can each hypothesis express?" in said
    assert ("geometry.html" in command) == (tmp_path / "geometry.html").is_file()


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("adapterlab report --serve")])
def test_its_command_that_follows_a_run_serves_the_report(command, place_with_results, monkeypatch):
    """It is stopped as soon as the page is there."""
    from adapterlab.cli.report import Follower

    pages = []

    def stop(follower):
        pages.append(follower.page.html)
        raise KeyboardInterrupt

    monkeypatch.setattr(Follower, "follow", stop)
    monkeypatch.chdir(place_with_results)
    assert "Following runs/quick at http://127.0.0.1:" in output(*shlex.split(command))
    assert "EventSource" in pages[0]


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("adapterlab reproduce")])
def test_its_command_that_trains_published_trials_again_runs(command, monkeypatch):
    """With one trial."""
    monkeypatch.chdir(ROOT)
    said = output(*shlex.split(command), "--least", "1", "--share", "0", "--minutes", "0.2", "--seed", "1")
    assert "1 of 1 outcomes agree" in said


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("adapterlab honest")])
def test_its_command_about_honesty_runs(command, monkeypatch):
    """With fewer studies, which widens the intervals and nothing else."""
    monkeypatch.chdir(ROOT)
    said = output(*shlex.split(command), "--studies", "20")
    assert "If an adapter is compared with itself, study quick reports a difference" in " ".join(said.split())


def test_every_command_is_one_of_those_tested():
    others = (
        "adapterlab run",
        "adapterlab tune",
        "adapterlab rate",
        "adapterlab geometry",
        "adapterlab honest",
        "adapterlab report --serve",
        "adapterlab reproduce",
        "adapterlab models fetch",
        "make",
    )
    assert COMMANDS
    assert all(c.startswith((*AT_ONCE, *OF_RESULTS, *others)) for c in COMMANDS)


def test_its_links_and_folders_exist():
    for target in re.findall(r"\]\(([^)h][^)]*)\)", TEXT):
        assert (ROOT / target.split("#")[0]).exists(), target
