"""The wheel and the sdist hold what is needed, and the installed wheel works outside a checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.lab.tiny import save_study

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAMED = f"adapterlab-{PROJECT['version']}"


class Built(NamedTuple):
    """The files that a build gives."""

    wheel: Path
    sdist: Path


def test_the_locked_versions_are_those_of_the_constraints():
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    locked = re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text().strip())
    versions = {}
    for entry in locked:
        name, version = re.match(r"([\w.-]+)==([\w.+]+)", entry).groups()
        versions[name] = version
        assert "--hash=sha256:" in entry, name

    def normal(name):
        return re.sub(r"[-_.]+", "-", name).lower()

    differing = {
        name: versions.get(normal(name)) for name, at in pinned.items() if versions.get(normal(name), at) != at
    }
    assert not differing, "run: make lock"
    required = {normal(re.match(r"[\w.-]+", text)[0]) for text in PROJECT["dependencies"]}
    assert required <= versions.keys()
    backend = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert backend == [f"hatchling=={versions['hatchling']}"]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Built:
    """The sdist of this checkout, and the wheel that is built from that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return Built(folder / f"{NAMED}-py3-none-any.whl", folder / f"{NAMED}.tar.gz")


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory) -> Path:
    """A folder with the installed wheel; its dependencies are those of the running environment."""
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(folder)]
    result = subprocess.run([*command, str(built.wheel)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return folder


def run(installed: Path, cwd: Path, *command: str) -> str:
    """Run a command with the installed wheel on the path and the checkout not on it; gives what it prints."""
    assert not cwd.is_relative_to(ROOT)
    environment = os.environ | {"PYTHONPATH": str(installed), "COLUMNS": "120"}
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def ours(folder: str, pattern: str) -> set[str]:
    """The files of a folder of the checkout, relative to the checkout."""
    found = {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob(pattern)}
    assert found, f"no {pattern} in {folder}"
    return found


def test_the_wheel_has_every_module_and_data_file(built):
    with zipfile.ZipFile(built.wheel) as wheel:
        names = set(wheel.namelist())
    assert ours("adapterlab", "*.py") <= names
    for pattern in ("*.jinja", "*.html", "*.lark", "*.toml", "py.typed"):
        assert ours("adapterlab", pattern) <= names
    assert ours("adapterlab/models/base", "*.*") <= names
    for folder in ("maps", "studies"):
        assert {f"adapterlab/{path}" for path in ours(folder, "*.*")} <= names
    assert {"adapterlab/argmap/syntax/argdown.lark", "adapterlab/lab/analysis/literature.toml"} <= names
    packages = {name.split("/")[0] for name in names}
    assert packages == {"adapterlab", f"{NAMED}.dist-info"}, "no tests and no tools"


def test_the_wheel_states_its_licence(built):
    with zipfile.ZipFile(built.wheel) as wheel:
        metadata = wheel.read(f"{NAMED}.dist-info/METADATA").decode().splitlines()
        assert wheel.read(f"{NAMED}.dist-info/licenses/LICENSE").decode() == (ROOT / "LICENSE").read_text()
    assert {"License-Expression: MIT", "License-File: LICENSE", "Requires-Python: >=3.11"} <= set(metadata)


def test_the_sdist_has_what_building_and_testing_need(built):
    with tarfile.open(built.sdist) as sdist:
        names = {name.removeprefix(f"{NAMED}/") for name in sdist.getnames()}
    for folder in ("adapterlab", "tests", "benchmarks", "tools"):
        assert ours(folder, "*.py") <= names
    for folder in ("maps", "studies", "docs"):
        assert ours(folder, "*.*") <= names
    assert {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "Makefile", "constraints.txt"} <= names


def test_the_installed_program_tells_its_version_and_lists_its_adapters(installed, tmp_path):
    where = "import adapterlab; print(adapterlab.__file__)"
    assert Path(run(installed, tmp_path, sys.executable, "-c", where).strip()).is_relative_to(installed)
    version = run(installed, tmp_path, sys.executable, "-m", "adapterlab", "--version")
    assert version == f"adapterlab {PROJECT['version']}\n"
    listed = run(installed, tmp_path, str(installed / "bin/adapterlab"), "adapters")
    assert {"lora", "hra", "prefix"} <= set(listed.split())


def test_the_installed_program_has_its_studies_and_its_model(installed, tmp_path):
    code = "from adapterlab.lab.run.locate import find_study; print(find_study('gain'))"
    study = Path(run(installed, tmp_path, sys.executable, "-c", code).strip())
    assert study.is_relative_to(installed)
    assert study.is_file()
    assert "parameters" in run(installed, tmp_path, sys.executable, "-m", "adapterlab", "explain", "ia3")


def test_the_installed_program_plans_the_quick_study(installed, tmp_path):
    planned = run(installed, tmp_path, str(installed / "bin/adapterlab"), "run", "--plan")
    assert "trials " in planned
    assert not (tmp_path / "runs/quick/ledger.sqlite").exists()


def test_the_extras_are_there_and_the_tools_for_development_have_them():
    extras = PROJECT["optional-dependencies"]
    assert {"gguf", "cluster", "peft", "quant", "lm-eval"} <= extras.keys()
    assert {re.match(r"[\w.-]+", text)[0] for text in extras["quant"]} == {"bitsandbytes", "torchao"}
    (ours,) = [text for text in extras["dev"] if text.startswith("adapterlab[")]
    assert {"gguf", "cluster", "lm-eval", "quant"} <= set(re.search(r"\[(.*)\]", ours)[1].split(","))


def test_a_study_runs_from_end_to_end_with_the_installed_program(installed, tmp_path):
    study = save_study(tmp_path, steps=6)
    out = tmp_path / "results"
    printed = run(installed, tmp_path, str(installed / "bin/adapterlab"), "run", str(study), "--out", str(out))
    assert "The report:" in printed
    assert {path.name for path in out.iterdir()} >= {"report.html", "verdict.json", "ledger.sqlite"}
    assert (out / "report.html").read_text().startswith("<!doctype html>")
