"""The guide for contributors works: its adapter passes the tests that it names, and its commands run."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.lab.tiny import save_model

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]
(ADAPTER,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
(STUDY,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
ADAPTER_FILE = re.findall(r"Put this into `([^`]+)`", TEXT)[0]
STUDY_FILE = re.findall(r"Save this as `([^`]+)`", TEXT)[0]
IN_THE_CHECKOUT = ("pytest", "adapterlab")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of the checkout to which the guide's two files were added; the study is of a tiny model."""
    place = tmp_path_factory.mktemp("checkout")
    for folder in ("adapterlab", "tests", "maps", "studies"):
        shutil.copytree(ROOT / folder, place / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", place)
    (place / ADAPTER_FILE).write_text(ADAPTER)
    model = save_model(place / "model")
    (place / STUDY_FILE).write_text(f'model = "{model}"\n{STUDY}')
    return place


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith(IN_THE_CHECKOUT)])
def test_its_commands_run_with_the_adapter_of_the_guide(command, checkout):
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    result = subprocess.run(
        [sys.executable, "-m", *shlex.split(command)],
        cwd=checkout,
        env={key: value for key, value in environment.items() if not key.startswith("PYTEST")},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout
    if command.startswith("adapterlab run"):
        (report,) = re.findall(r"runs/\S+\.html", next(line for line in TEXT.splitlines() if command in line))
        assert (checkout / report).is_file()


def test_its_adapter_keeps_to_the_style_of_the_package(checkout):
    for arguments in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *arguments, ADAPTER_FILE]
        result = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make")])
def test_its_make_targets_exist(command):
    plan = subprocess.run([*shlex.split(command), "-n"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert plan.returncode == 0, plan.stderr


def test_every_command_is_one_of_those_tested():
    assert {c.split()[0] for c in COMMANDS} == {"make", ".", *IN_THE_CHECKOUT}
    assert ". .venv/bin/activate" in COMMANDS


def test_its_links_folders_and_files_exist():
    for target in re.findall(r"\]\(([^)#h][^)#]*)", TEXT):
        assert (ROOT / target).exists(), target
    for path in re.findall(r"`((?:tests|adapterlab|studies|maps|tools|docs)/[^`\s]*)`", TEXT):
        assert path == ADAPTER_FILE or list(ROOT.glob(path)), path


def test_its_adapter_is_new_and_its_study_is_one():
    ast.parse(ADAPTER)
    assert not (ROOT / ADAPTER_FILE).exists()
    assert tomllib.loads(STUDY)["name"] == Path(STUDY_FILE).stem
