"""A folder in which a reader of the pages would work, with a model so small that its commands take seconds."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import adapterlab
from adapterlab.cli import app
from adapterlab.models.catalogue import CATALOGUE
from adapterlab.models.loading import load, load_causal
from tests.conftest import tiny_llama
from tests.geometry.checkpoints import save_pair
from tests.lab.in_process import use
from tests.lab.tiny import save_model, save_study
from tests.pages.blocks import Block
from tests.tasks.user_files import completions, write

ROOT = Path(__file__).parents[2]
NAME = "page"
"""Name of the module that the Python of a page is run as."""
SHORTER = {
    "tune": ["--seeds", "2"],
    "honest": ["--studies", "20"],
    "geometry": ["--budget", "500", "--draws", "2", "--hypotheses", "lora,ia3"],
}
"""Options that are added to commands so that they take seconds; the later one of two equal options counts."""


def nothing(place: Path) -> None:
    """The reader needs no file that the page has not made."""


def model_and_rows(place: Path) -> None:
    save_model(place / "my-model")
    write(place / "my.jsonl", completions(40))


def fetched_model_and_rows(place: Path) -> None:
    """As if SmolLM2 had been fetched before."""
    model_and_rows(place)
    shutil.copytree(place / "my-model", place / "cache" / "models" / CATALOGUE["smollm2"].folder.name)
    os.environ["ADAPTERLAB_CACHE"] = str(place / "cache")


def results(place: Path) -> None:
    shutil.copytree(ROOT / "results" / "real-1", place / "results" / "real-1")


def changed_models(place: Path) -> None:
    """Two checkpoints, a PEFT folder, a saved adapter and a study with full fine-tuning."""
    tokenizer = load("embedded").tokenizer
    base, tuned = save_pair(place, tiny_llama(vocab_size=len(tokenizer)))
    for folder, name in ((base, "my-base-model"), (tuned, "my-tuned-model")):
        tokenizer.save_pretrained(folder)
        folder.rename(place / name)
    shutil.copytree(place / "my-base-model", place / "my-model")
    model, _ = load_causal(str(place / "my-base-model"))
    handle = adapterlab.attach(model, adapterlab.adapter("lora", rank=2))
    for parameter in handle.parameters():
        parameter.data.add_(0.01)
    handle.save(place / "my-adapter")
    handle.export_peft(place / "my-peft-adapter")
    study = save_study(place, steps=6)
    text = study.read_text().replace('full_ft = false\nfull_ft_reason = "seconds count in a test"', "full_ft = true")
    (place / "my-study.toml").write_text(text.replace('name = "tiny"', 'name = "my-study"'))
    invoke("adapterlab run my-study.toml")


def built_in_map(place: Path) -> None:
    shutil.copy(ROOT / "maps" / "natural_manifold.argdown", place / "mine.argdown")
    save_study(place, steps=6).rename(place / "mine.toml")
    (place / "mine.toml").write_text((place / "mine.toml").read_text().replace('name = "tiny"', 'name = "mine"'))


def a_study(place: Path) -> None:
    """A study that has run, which the page calls STUDY."""
    save_study(place, steps=6).rename(place / "STUDY")
    invoke("adapterlab run STUDY")


def invoke(command: str) -> str:
    """Output of a command, which must end with success."""
    words = shlex.split(command)[1:]
    more = SHORTER.get(words[0], [])
    if words[0] == "tune" and "--contestants" not in words:
        more = [*more, "--contestants", "lora"]
    result = CliRunner().invoke(app, [*words, *more])
    assert result.exit_code == 0, f"{command}\n{result.output}\n{result.exception}"
    return result.stdout


def work(place: Path, blocks: list[Block], skipped: Callable[[str], bool]) -> int:
    """Do what a page says: save its files, run its commands and its Python, in order.

    Returns:
        How many commands and blocks of Python ran.
    """
    names: dict[str, object] = {"__name__": NAME}
    ran = 0
    for block in blocks:
        if block.file is not None:
            save(place / block.file, block)
        if block.kind == "python" and block.file is None:  # a file is run by the command that reads it
            exec(compile(block.text, f"line {block.line}", "exec"), names)
            ran += 1
        for command in block.commands:
            if not skipped(command):
                assert invoke(command), command
                ran += 1
    return ran


def save(file: Path, block: Block) -> None:
    """Save a block; a study is one of the tiny model, and rows are more than the page has space for."""
    text = block.text
    if block.kind == "toml":
        if not (file.parent / "tiny-model").exists():
            save_model(file.parent / "tiny-model")
        text = 'model = "tiny-model"\n' + re.sub(r"budget = [\d_]+", "budget = 3_000", text)
    if block.kind == "json":
        text += file.read_text()
    file.write_text(text)


def quicken(place: Path, patch: pytest.MonkeyPatch) -> None:
    """Run trials in this process, and let `tune` plan studies of a few steps."""
    patch.chdir(place)
    patch.setenv("COLUMNS", "100")
    patch.setenv("ADAPTERLAB_CACHE", os.environ["ADAPTERLAB_CACHE"])  # so that a page's own is restored
    patch.setattr("adapterlab.tuning.planning.MIN_STEPS", 4)
    patch.setattr("adapterlab.tuning.planning.MAX_STEPS", 4)
    use(patch)
