"""ReFT against the authors' package, pyreft 0.1.0: what it gives is stored, and asked for anew where it is installed."""

from __future__ import annotations

import json
import math

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from adapterlab.adapters import adapter
from adapterlab.adapters.state import State
from adapterlab.surgery import attach
from tests.adapters.oracles.reft_authors import figures, regenerate

STORED = json.loads(regenerate.STORED.read_text(encoding="utf-8"))
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def tensors(name, width, rank, variant):
    r = (
        figures.numbers(f"{name}.r", width, rank)
        if variant == "direft"
        else figures.orthonormal(f"{name}.r", width, rank)
    )
    w, b = figures.numbers(f"{name}.w", rank, width), figures.numbers(f"{name}.b", rank)
    return {"r": r.T[None], "w": w[None], "b": b[None]}


@pytest.mark.parametrize("variant", figures.CASES)
def test_the_authors_modules_give_the_same_answer_and_gradients(variant):
    wanted = {name: torch.tensor(found, dtype=torch.float64) for name, found in STORED["edited"][variant].items()}
    method = adapter("reft", rank=figures.RANK, variant=variant, where="everywhere")
    leaves = {
        name: t.clone().requires_grad_() for name, t in tensors(variant, figures.WIDTH, figures.RANK, variant).items()
    }
    hidden = figures.numbers("hidden", 2, 4, figures.WIDTH).requires_grad_()
    answer = hidden + method.change(State(leaves), hidden)
    torch.testing.assert_close(answer, wanted["answer"], **CLOSE)
    (answer * figures.numbers("toward", 2, 4, figures.WIDTH)).sum().backward()
    found = {"hidden": hidden.grad, **{name: leaf.grad[0] for name, leaf in leaves.items()}}
    for name in ("hidden", "w", "b"):
        torch.testing.assert_close(found[name], wanted[name], **CLOSE)
    if variant == "direft":
        torch.testing.assert_close(found["r"], wanted["r"], **CLOSE)
    else:
        # Both keep the rows orthonormal, by different maps from a free matrix, whose gradients share what turns the rows
        # out of their span.
        rows = leaves["r"].detach()[0]
        outside = torch.eye(figures.WIDTH, dtype=torch.float64) - rows.T @ rows
        torch.testing.assert_close(found["r"] @ outside, wanted["r"] @ outside, **CLOSE)


@pytest.mark.parametrize("prompt", figures.PROMPTS)
def test_the_authors_edit_the_same_positions(prompt):
    start, end, length = prompt
    model = LlamaForCausalLM(LlamaConfig(**figures.SHAPE)).eval()
    handle = attach(model, adapter("reft", rank=2, start=start, end=end, layers=(2,), identity_start=False))
    tokens = torch.arange(length)[None] % 11
    seen = {}
    model.model.layers[2].register_forward_hook(lambda *call: seen.update(after=call[2]))
    model(tokens)
    with handle.disabled():
        after = seen["after"]
        model(tokens)
    changed = (after - seen["after"]).abs().sum(-1)[0] > 0
    assert changed.nonzero().flatten().tolist() == STORED["positions"][figures.PROMPTS.index(prompt)]


def test_a_whole_model_answers_as_under_the_authors_package():
    model = LlamaForCausalLM(LlamaConfig(**figures.SHAPE)).double().eval()
    figures.fill(model)
    handle = attach(model, adapter("reft", rank=2, start=2, end=1, layers=figures.LAYERS))
    with torch.no_grad():
        for layer, site in zip(figures.LAYERS, handle.sites.values(), strict=True):
            for name, t in tensors(f"layer {layer}", figures.SHAPE["hidden_size"], 2, "loreft").items():
                site.state[name].copy_(t)
        answer = model(torch.tensor(figures.TOKENS)).logits
    # Their version of transformers gives logits in float32.
    torch.testing.assert_close(answer, torch.tensor(STORED["logits"], dtype=torch.float64), rtol=1e-6, atol=1e-6)


@pytest.mark.skipif(
    not regenerate.PYTHON.exists(),
    reason="pyreft is not installed: python -m tests.adapters.oracles.reft_authors.regenerate --install",
)
def test_what_is_stored_is_what_the_authors_package_says():
    for own, stored in zip(numbers(regenerate.run()), numbers(STORED), strict=True):
        assert math.isclose(own, stored, rel_tol=1e-6, abs_tol=1e-6)


def numbers(found):
    """All numbers in a piece of JSON, in order."""
    if isinstance(found, dict | list):
        for part in found.values() if isinstance(found, dict) else found:
            yield from numbers(part)
    else:
        yield found
