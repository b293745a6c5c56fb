"""A trial's id contains a hash of every file of the model's folder and of the data that decide its outcome."""

from __future__ import annotations

import platform
import re
import shutil
from pathlib import Path

import pytest
import transformers
from huggingface_hub import constants
from PIL import Image
from transformers import AutoTokenizer
from transformers.utils import hub

from adapterlab.errors import AdapterlabError
from adapterlab.models.fingerprint import TEMPLATES, fingerprint, folder_of, model_stamps
from adapterlab.models.loading import load
from adapterlab.tasks.files import FileData, forget_changed, task_of
from tests.tasks.user_files import texts, write

EMBEDDED_HASH = "f4c8a56694b93a72"


@pytest.fixture
def model(tmp_path):
    shutil.copytree(folder_of("embedded"), tmp_path / "model")
    return tmp_path / "model"


def test_the_embedded_model_keeps_its_hash():
    assert fingerprint("embedded") == EMBEDDED_HASH


@pytest.mark.parametrize(
    "file",
    [
        "tokenizer_config.json",
        "chat_template.jinja",
        "vocab.txt",
        "preprocessor_config.json",
        "source.spm",
        "qwen.tiktoken",
        "additional_chat_templates/tools.jinja",
    ],
)
def test_the_tokenizer_its_templates_and_the_image_processor_count(model, file):
    before = fingerprint(str(model))
    path = model / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(path.read_text() + "\n" if path.exists() else "{}")
    assert fingerprint(str(model)) != before
    assert str(path) in {stamp.path for stamp in model_stamps(str(model))}


def test_every_file_that_a_tokenizer_of_transformers_reads_counts(model):
    package = Path(transformers.__file__).parent
    named = set()
    for source in package.glob("models/*/tokenization*.py"):
        if listed := re.search(r"^VOCAB_FILES_NAMES\s*=\s*\{(.*?)\}", source.read_text(), re.DOTALL | re.MULTILINE):
            named |= set(re.findall(r":\s*\"([^\"]+)\"", listed[1]))
    assert len(named) > 20
    for name in sorted(named):
        (model / name).write_text(f"{name} for a test")
    assert {str(model / name) for name in named} <= {stamp.path for stamp in model_stamps(str(model))}


def test_every_chat_template_that_a_tokenizer_saves_counts(model):
    assert hub.CHAT_TEMPLATE_DIR == TEMPLATES
    tokenizer = AutoTokenizer.from_pretrained(model)
    hashes = set()
    for templates in (
        "{{ 1 }}",
        {"default": "{{ 1 }}", "tools": "{{ 2 }}"},
        {"default": "{{ 1 }}", "tools": "{{ 3 }}"},
    ):
        tokenizer.chat_template = templates
        tokenizer.save_pretrained(model)
        hashes.add(fingerprint(str(model)))
    assert len(hashes) == 3


def test_a_readme_and_the_folder_do_not_count(model, tmp_path):
    before = fingerprint(str(model))
    (model / "README.md").write_text("Other words.")
    assert fingerprint(str(shutil.copytree(model, tmp_path / "copy"))) == before == fingerprint("embedded")


def in_hub_cache(cache: Path, commit: str, scale: str) -> None:
    """Put the embedded model into a cache of the hub, as `nobody/small` at a commit that `main` is moved to."""
    repo = cache / "models--nobody--small"
    shutil.copytree(folder_of("embedded"), repo / "snapshots" / commit)
    config = repo / "snapshots" / commit / "config.json"
    config.write_text(re.sub(r'"rms_norm_eps": [^,]+', f'"rms_norm_eps": {scale}', config.read_text()))
    (repo / "refs").mkdir(exist_ok=True)
    (repo / "refs" / "main").write_text(commit)


def test_an_id_on_the_hub_is_named_and_loaded_with_its_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    old, new = "1" * 40, "2" * 40
    in_hub_cache(tmp_path, old, "1e-05")
    before = fingerprint("nobody/small")
    assert before == f"nobody/small@{old}"
    in_hub_cache(tmp_path, new, "1e-03")
    assert fingerprint("nobody/small") == f"nobody/small@{new}"
    assert fingerprint(before) == before
    assert load("nobody/small").model.config.rms_norm_eps == 1e-3
    assert load(before).model.config.rms_norm_eps == 1e-5
    assert model_stamps("nobody/small") == []


def test_an_unknown_id_has_no_fingerprint():
    with pytest.raises(
        AdapterlabError, match=r"cannot load the model 'nobody/nothing': .*; there is no folder of that"
    ):
        fingerprint("nobody/nothing")


def test_a_task_that_takes_the_built_in_base_domain_depends_on_the_version_of_python(tmp_path, monkeypatch):
    """The base domain is cut from the standard library."""
    rows = write(tmp_path / "rows.jsonl", texts(60))
    keep = write(tmp_path / "keep.jsonl", texts(20, start=60))
    built_in, own = task_of(FileData("a", rows)), task_of(FileData("b", rows, keep=keep))
    before = built_in.fingerprint(), own.fingerprint()
    monkeypatch.setattr(platform, "python_version", lambda: "3.99.0")
    assert built_in.fingerprint() != before[0]
    assert own.fingerprint() == before[1]


def test_an_image_that_a_row_names_elsewhere_counts(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for i in range(12):
        Image.new("RGB", (4, 4), (20 * i, 0, 0)).save(images / f"{i}.png")
    rows = [{"image": str(images / f"{i}.png"), "label": "ab"[i % 2]} for i in range(12)]
    data = FileData("pictures", write(tmp_path / "rows.jsonl", rows))
    before = task_of(data).fingerprint()
    Image.new("RGB", (4, 4), (0, 9, 0)).save(images / "3.png")
    forget_changed(data)
    assert task_of(data).fingerprint() != before
