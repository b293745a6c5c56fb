"""`adapterlab --version`, and the other places that state the version."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_version_prints_the_version_and_loads_no_torch():
    code = """
import sys
from adapterlab.cli import main
sys.argv = ["adapterlab", "--version"]
try:
    main()
finally:
    print("torch" in sys.modules, "transformers" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [f"adapterlab {VERSION}", "False False"]


def test_the_citation_and_the_changelog_have_the_version_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == VERSION
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert f"\n## [{VERSION}] - " in (ROOT / "CHANGELOG.md").read_text()


def test_another_version_of_the_package_is_no_reason_to_train_a_trial_again(monkeypatch):
    from adapterlab.lab.trial import code_version as code
    from adapterlab.lab.trial.import_closure import ImportClosure
    from adapterlab.tasks import task

    def found() -> tuple[str, str]:
        closure = ImportClosure(registries=code.registered())
        return code.code_version("lora", task("prose"), closure), code.geometry_version(closure)

    before = found()
    monkeypatch.setattr("importlib.metadata.version", lambda name: "9.9.9")
    monkeypatch.setattr(code, "version", lambda name: "9.9.9")
    assert found() == before
    files = dict(code.decisive_files("lora", task("prose")))
    assert all(name.startswith("adapterlab/") and name.endswith(".py") for name in files)
