"""The embedded model with biases of zero: the same function, and BitFit can train it."""

from __future__ import annotations

import torch
from typer.testing import CliRunner

from adapterlab.adapters import adapter
from adapterlab.cli import app
from adapterlab.models.fingerprint import fingerprint
from adapterlab.models.loading import load_causal
from adapterlab.surgery import attach, parameter_count


def test_it_computes_what_the_embedded_model_does_and_has_biases(tmp_path):
    result = CliRunner().invoke(app, ["models", "with-biases", str(tmp_path / "biased")])
    assert result.exit_code == 0, result.output
    assert "10,752 biases of zero" in result.stdout
    plain, biased = load_causal(), load_causal(str(tmp_path / "biased"))
    tokens = biased.tokenizer("def add(a, b):\n    return a + b\n", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(biased.model(tokens).logits, plain.model(tokens).logits, rtol=0, atol=0)
    layers = [m for m in biased.model.modules() if isinstance(m, torch.nn.Linear) and m is not biased.model.lm_head]
    assert all(layer.bias is not None and not layer.bias.any() for layer in layers)
    assert parameter_count(biased.model, adapter("bitfit")) == sum(layer.out_features for layer in layers) == 10_752
    handle = attach(biased.model, adapter("bitfit"))
    before = biased.model(tokens).logits
    biased.model(tokens, labels=tokens).loss.backward()
    with torch.no_grad():
        for parameter in handle.parameters():
            parameter -= 0.1 * parameter.grad
    assert not torch.equal(biased.model(tokens).logits, before)


def test_it_is_the_same_on_every_machine_and_replaces_nothing(tmp_path):
    for name in ("one", "two"):
        assert CliRunner().invoke(app, ["models", "with-biases", str(tmp_path / name)]).exit_code == 0
    assert fingerprint(str(tmp_path / "one")) == fingerprint(str(tmp_path / "two")) != fingerprint("embedded")
    result = CliRunner().invoke(app, ["models", "with-biases", str(tmp_path / "one")])
    assert "exists: give a folder that does not" in str(result.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
