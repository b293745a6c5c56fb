"""Every command and Python block of the pages runs: here, in another test that is named, or for a stated reason not."""

from __future__ import annotations

import ast
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from adapterlab import argmap
from adapterlab.adapters.base import Adapter
from adapterlab.lab.study.load import load_study
from tests.lab.tiny import save_study
from tests.pages import place as prepare
from tests.pages.blocks import DOCS, Block, blocks_of

ROOT = DOCS.parent
RUN = {
    "add-a-hypothesis.md": prepare.nothing,
    "argmap.md": prepare.built_in_map,
    "fairness.md": prepare.results,
    "geometry.md": prepare.changed_models,
    "index.md": prepare.model_and_rows,
    "own-model-and-data.md": prepare.model_and_rows,
    "rates-and-ranks.md": prepare.model_and_rows,
    "studies.md": prepare.a_study,
    "ten-minutes.md": prepare.nothing,
    "tune.md": prepare.fetched_model_and_rows,
    "write-a-map.md": prepare.nothing,
}
"""Pages whose blocks run here, in order, and the files that their reader has."""
ELSEWHERE = {
    "coming-from-peft.md": "tests/test_coming_from_peft.py",
    "evidence.md": "tests/evidence/test_commands.py",
    "tasks.md": "tests/tasks/test_docs.py",
}
"""Pages whose blocks are the subject of a test of their own."""
NOT_RUN = {
    "make": "the target is found and its plan is printed; what it starts is tested by itself",
    ". .venv/bin/activate": "a matter of the shell",
    "python tools/mutants.py": "tests/tools/test_mutants.py runs its parts",
    "adapterlab retry STUDY --trial 1f3a": "no reader has that trial; tests/lab/run/test_retry.py gives real ids",
    "adapterlab retry": "nothing has failed here; tests/lab/run/test_retry.py runs it where trials have",
    "adapterlab models fetch": "a package index is asked; tests/models/test_fetch.py gives the file",
    "adapterlab tune --model my-model --train my.jsonl --methods all": "hours; tests/test_tune_page.py takes its options",
    "adapterlab evaluate": "a task of the harness is needed; tests/test_harness.py writes one",
    "adapterlab run": "the quick study takes minutes; tests/test_readme.py loads it and checks the command",
}
"""Commands that do not run, by their beginnings, each with its reason; `adapterlab run` is the whole command."""
DATA = {"text", "", "json", "toml", "argdown"}
"""Kinds of blocks that are no code: they are saved, read by their own reader, or shown output."""


def is_skipped(command: str) -> bool:
    return any(command == start if start == "adapterlab run" else command.startswith(start) for start in NOT_RUN)


def pages_with_code() -> list[str]:
    return [
        path.name for path in sorted(DOCS.glob("*.md")) if any(block.kind not in DATA for block in blocks_of(path.name))
    ]


@pytest.fixture(autouse=True)
def forget_what_a_page_defines():
    """Adapters of the pages are known in these tests alone."""
    yield
    for name in [name for name, kind in Adapter.registry.items() if kind.__module__ == prepare.NAME]:
        del Adapter.registry[name]


@pytest.mark.filterwarnings("ignore:the adapter attached before is frozen")
@pytest.mark.parametrize("page", RUN)
def test_what_a_page_says_works_in_its_order(page, tmp_path, monkeypatch):
    prepare.quicken(tmp_path, monkeypatch)
    RUN[page](tmp_path)
    assert prepare.work(tmp_path, blocks_of(page), is_skipped)


@pytest.mark.parametrize("page", pages_with_code())
def test_every_page_with_code_is_run_here_or_in_a_test_that_reads_it(page):
    if page in RUN:
        return
    if page in ELSEWHERE:
        assert page in (ROOT / ELSEWHERE[page]).read_text()
        return
    commands = [command for block in blocks_of(page) for command in block.commands]
    assert all(is_skipped(command) for command in commands), page
    assert not [block for block in blocks_of(page) if block.kind == "python"], page


def test_every_reason_is_needed():
    commands = [command for page in pages_with_code() for block in blocks_of(page) for command in block.commands]
    for start in NOT_RUN:
        assert any(command.startswith(start) for command in commands), start


@pytest.mark.parametrize(
    "command",
    sorted({c for page in pages_with_code() for b in blocks_of(page) for c in b.commands if c.startswith("make ")}),
)
def test_its_make_targets_exist(command):
    plan = subprocess.run([*shlex.split(command), "-n"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert plan.returncode == 0, plan.stderr


def parts_of_studies() -> list[Block]:
    return [b for path in sorted(DOCS.glob("*.md")) for b in blocks_of(path.name) if b.kind == "" and b.text[:1] == "["]


@pytest.mark.parametrize("block", parts_of_studies(), ids=lambda block: block.text.splitlines()[0])
def test_parts_of_a_study_are_taken_by_a_study(block, tmp_path):
    study = save_study(tmp_path)
    table = tomllib.loads(block.text)
    text = study.read_text()
    if "sweep" in table:
        text = text.replace("budget = 3000\n", "").replace("steps = 40\n", "")
    if "geometry" in table:
        text = text.replace('full_ft = false\nfull_ft_reason = "seconds count in a test"', "full_ft = true")
    study.write_text(text + "\n" + block.text)
    assert getattr(load_study(study), next(iter(table)))


@pytest.mark.parametrize("page", [path.name for path in sorted(DOCS.glob("*.md"))])
def test_blocks_of_data_are_what_they_say(page):
    for block in blocks_of(page):
        if block.kind == "toml":
            assert tomllib.loads(block.text)
        elif block.kind == "argdown":
            assert argmap.parse(block.text).claims
        elif block.kind == "python":
            ast.parse(block.text)


def test_the_site_lists_every_page():
    class Reader(yaml.SafeLoader):
        """Settings of mkdocs, without the functions that they may name."""

    settings = yaml.load((ROOT / "mkdocs.yml").read_text(), Reader)

    def leaves(part):
        if isinstance(part, str):
            return [part]
        return [leaf for item in (part.values() if isinstance(part, dict) else part) for leaf in leaves(item)]

    listed = set(leaves(settings["nav"]))
    assert {path.name for path in DOCS.glob("*.md")} <= listed
    notebooks = {f"examples/{path.stem}.md" for path in (ROOT / "examples").glob("*.ipynb")}
    assert notebooks == {name for name in listed if name.startswith("examples/")}
    assert Path(ROOT / "mkdocs.yml").is_file()
