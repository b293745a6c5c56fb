"""Siblings of the embedded model: made by its recipe, resumed where a run stopped, and written whole or not at all."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from adapterlab.cli import app
from adapterlab.errors import AdapterlabError
from adapterlab.models import pretrain as module
from adapterlab.models.corpus import Document
from adapterlab.models.fingerprint import folder_of
from adapterlab.models.loading import load_causal
from adapterlab.models.pretrain import SIZES, Recipe, pretrain

TEXT = "".join(f"def f{i}(x):\n    return x + {i}\n" for i in range(400))


@pytest.fixture
def short_library(monkeypatch):
    """A library of six files in place of Python's, which takes half a minute to read."""
    split = {
        "train": tuple(Document(f"{i}.py", TEXT[i * 20 :]) for i in range(6)),
        "heldout": (Document("h.py", TEXT[:2000]),),
    }
    monkeypatch.setattr(module, "documents", split.__getitem__)


def test_the_sizes_are_those_of_the_embedded_family():
    def parameters(width):
        with torch.device("meta"):
            return sum(p.numel() for p in module.LlamaForCausalLM(Recipe(width=width).config()).parameters())

    assert {name: parameters(width) for name, width in SIZES.items()} == {
        "1m": 1_328_256,
        "4m": 4_262_144,
        "16m": 14_946_816,
    }
    shipped = load_causal().model.config
    made = Recipe(width=SIZES["4m"]).config()
    for key in (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "vocab_size",
        "rms_norm_eps",
    ):
        assert getattr(made, key) == getattr(shipped, key), key


def test_a_run_that_is_stopped_goes_on_to_the_same_weights(short_library, tmp_path):
    recipe = Recipe(width=64, steps=4, batch=2, context=32, warmup=2)
    whole = pretrain(recipe, tmp_path / "whole")

    def stop(done, loss):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(recipe, tmp_path / "halved", every=2, watch=stop)
    assert [p.name for p in tmp_path.iterdir() if "halved" in p.name] == [".halved.checkpoint"]
    steps = []
    assert pretrain(recipe, tmp_path / "halved", watch=lambda done, loss: steps.append(done)) == whole
    assert steps == [3, 4]
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "halved"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["halved", "whole"]


def test_the_command_makes_models_that_studies_can_name(short_library, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["models", "pretrain", "1m", "--steps", "2"])
    assert result.exit_code == 0, result.output
    assert "family/1m is ready: " in result.stdout
    assert "measuring it on files held out" not in result.stderr
    assert load_causal("family/1m").model.config.hidden_size == 128
    card = (tmp_path / "family/1m/README.md").read_text()
    assert "adapterlab models pretrain 1m --steps 2" in card
    assert "1,328,256 parameters" in card
    assert folder_of("family/1m").name == "1m"


def test_the_same_command_again_makes_what_is_missing(short_library, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["models", "pretrain", "1m", "4m", "--steps", "1"]
    assert CliRunner().invoke(app, ["models", "pretrain", "1m", "--steps", "1"]).exit_code == 0
    before = (tmp_path / "family/1m/model.safetensors").stat().st_mtime_ns

    def stop(*given, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "pretrain", stop)
        stopped = CliRunner().invoke(app, command)
    assert stopped.exit_code == 130
    assert "The last checkpoint is kept; run the same command to resume." in stopped.stdout
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "family/1m is there already" in result.stdout
    assert "family/4m is ready" in result.stdout
    assert (tmp_path / "family/1m/model.safetensors").stat().st_mtime_ns == before
    other = CliRunner().invoke(app, ["models", "pretrain", "1m", "--steps", "2"])
    assert "is not what this command makes" in str(other.exception)


def test_wrong_calls_say_what_to_do_and_write_nothing(short_library, tmp_path):
    def said(*arguments):
        return str(CliRunner().invoke(app, ["models", "pretrain", *arguments]).exception)

    assert "unknown size '2m': did you mean" in said("2m", "--out", str(tmp_path))
    (tmp_path / "1m").mkdir()
    assert "1m exists, and is not what this command makes: give another --out" in said(
        "16m", "1m", "--out", str(tmp_path)
    )
    assert list(tmp_path.iterdir()) == [tmp_path / "1m"]
    (tmp_path / "file").write_text("")
    assert "cannot write" in said("1m", "--out", str(tmp_path / "file"))


def test_a_checkpoint_of_other_settings_or_damaged_is_named_and_kept(short_library, tmp_path):
    recipe = Recipe(width=64, steps=2, batch=2, context=32)

    def stop(done, loss):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(recipe, tmp_path / "m", every=1, watch=stop)
    checkpoint = tmp_path / ".m.checkpoint"
    written = checkpoint.read_bytes()
    with pytest.raises(AdapterlabError, match=r"\.m\.checkpoint was written with other settings"):
        pretrain(Recipe(width=64, steps=3, batch=2, context=32), tmp_path / "m")
    assert checkpoint.read_bytes() == written
    checkpoint.write_bytes(written[:100])
    with pytest.raises(AdapterlabError, match=r"\.m\.checkpoint cannot be read .*: remove it to start again"):
        pretrain(recipe, tmp_path / "m")
    assert not (tmp_path / "m").exists()
