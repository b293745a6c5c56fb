"""A trial's id contains a hash of every file of the model's folder and of the data that decide its outcome."""

from __future__ import annotations

import platform
import shutil

import pytest

from adapterlab.models.loading import fingerprint, folder_of
from adapterlab.tasks.files import FileData, task_of
from tests.tasks.user_files import texts, write


@pytest.fixture
def model(tmp_path):
    shutil.copytree(folder_of("embedded"), tmp_path / "model")
    return tmp_path / "model"


def hash_of(folder: object) -> str:
    fingerprint.cache_clear()
    return fingerprint(str(folder))


@pytest.mark.parametrize(
    "file", ["tokenizer_config.json", "chat_template.jinja", "vocab.txt", "preprocessor_config.json"]
)
def test_the_tokenizer_its_template_and_the_image_processor_count(model, file):
    before = hash_of(model)
    path = model / file
    path.write_text(path.read_text() + "\n" if path.exists() else "{}")
    assert hash_of(model) != before


def test_a_readme_and_the_folder_do_not_count(model, tmp_path):
    before = hash_of(model)
    (model / "README.md").write_text("Other words.")
    assert hash_of(shutil.copytree(model, tmp_path / "copy")) == before == hash_of("embedded")


def test_a_task_that_takes_the_built_in_base_domain_depends_on_the_version_of_python(tmp_path, monkeypatch):
    """The base domain is cut from the standard library."""
    rows = write(tmp_path / "rows.jsonl", texts(60))
    keep = write(tmp_path / "keep.jsonl", texts(20, start=60))
    built_in, own = task_of(FileData("a", rows)), task_of(FileData("b", rows, keep=keep))
    before = built_in.fingerprint(), own.fingerprint()
    monkeypatch.setattr(platform, "python_version", lambda: "3.99.0")
    assert built_in.fingerprint() != before[0]
    assert own.fingerprint() == before[1]
