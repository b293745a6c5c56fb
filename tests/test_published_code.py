"""Published trials name the code that they ran with, and their pages say what has changed since."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
spec = importlib.util.spec_from_file_location("published_code", ROOT / "tools/published_code.py")
assert spec is not None
assert spec.loader is not None
code = importlib.util.module_from_spec(spec)
sys.modules["published_code"] = code  # dataclasses look their module up
spec.loader.exec_module(code)

FOLDERS = code.published()


def named(folder: Path) -> str:
    return folder.relative_to(ROOT / "results").as_posix()


def test_there_are_published_trials():
    assert {"real-1", "geometry-1/study"} <= set(map(named, FOLDERS))


@pytest.mark.parametrize("folder", FOLDERS, ids=named)
def test_the_recorded_code_is_that_of_the_trials(folder):
    """The trials' ids hold a hash over the files, so no other record gives it."""
    codes = code.codes_of(folder)
    files = code.recorded(folder)
    assert {key: code.version_of(found) for key, found in files.items()} == codes


@pytest.mark.parametrize("folder", FOLDERS, ids=named)
def test_its_page_says_what_has_changed_since(folder):
    readme = code.readme_of(folder).read_text()
    assert code.section(folder) in readme, "run: python tools/published_code.py table"


def test_the_hash_is_the_one_that_new_trials_get():
    from adapterlab.lab.trial.code_version import code_version, geometry_version
    from adapterlab.tasks import task

    assert code.version_of(code.files_now("oft/prose")) == code_version("oft", task("prose"))
    assert code.version_of(code.files_now(code.GEOMETRY)) == geometry_version()


def test_a_record_of_other_code_is_refused(tmp_path):
    shutil.copy(ROOT / "results/real-1/trials.parquet", tmp_path)
    with pytest.raises(SystemExit, match="ran with other code than the package imported here"):
        code.record(tmp_path, "now")
    assert not (tmp_path / "code.json").exists()


def test_a_record_that_was_edited_is_noticed(tmp_path):
    shutil.copytree(ROOT / "results/real-1", tmp_path / "real")
    path = tmp_path / "real/code.json"
    content = json.loads(path.read_text())
    content["files"]["adapterlab/lab/trial/train.py"] = "0" * 24
    path.write_text(json.dumps(content))
    files = code.recorded(tmp_path / "real")
    assert all(code.version_of(found) != code.codes_of(tmp_path / "real")[key] for key, found in files.items())


def test_each_kind_of_change_is_named_with_what_it_decides():
    before = {"lora/prose": {"a.py": "1", "b.py": "1"}, "oft/prose": {"a.py": "1", "c.py": "1"}}
    now = {"lora/prose": {"a.py": "2", "b.py": "1", "d.py": "1"}, "oft/prose": {"a.py": "2"}}
    assert [(change.file, change.kind, change.decides) for change in code.changes(before, now)] == [
        ("a.py", "changed", ("lora/prose", "oft/prose")),
        ("c.py", "gone", ("oft/prose",)),
        ("d.py", "new", ("lora/prose",)),
    ]
    assert code.changes(before, before) == []


def test_the_part_of_a_page_is_replaced_and_the_rest_kept():
    part = f"{code.START}\n\none\n\n{code.END}"
    page = code.updated("# Title\n", part)
    assert page == f"# Title\n\n## The code since then\n\n{part}\n"
    other = part.replace("one", r"two \1")
    assert code.updated(page, other) == page.replace("one", r"two \1")
