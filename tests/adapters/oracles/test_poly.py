"""Poly against its formula in numpy, the authors' layout of the skills, and PEFT, with and without noise in the shares.

Equation 6 of Ponti 2022 averages the products of the skills' factors. The authors' code, which its results come from,
Caccia 2022 and PEFT average the factors, and so does this method. PEFT starts the skills' `a` as LoRA does, uniform up to
`1 / sqrt(in / splits)`. Both of the authors' repositories (Polytropon, and MTTL with multi-head routing) have
`1 / sqrt(3 in)`, which is followed here.
"""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from peft import PolyConfig, get_peft_model

from adapterlab.adapters import adapter
from adapterlab.adapters.adapter_types import Signal
from adapterlab.surgery import attach
from tests.adapters.methods import context, moved, noisy
from tests.adapters.oracles.descent import ADAMW, SGD, agree, complex_step, descend, descend_by_hand, same_descent
from tests.adapters.oracles.functional import Plain
from tests.adapters.oracles.models import lively, loss_of
from tests.conftest import tiny_llama

TARGETS = ["q_proj", "v_proj", "down_proj"]
TASKS = torch.tensor([2, 0, 2])


def problem(shape):
    """A layer, and a sequence and its targets for each of `TASKS`."""
    generator = torch.Generator().manual_seed(sum(shape))
    rows, columns = shape
    sizes = ((rows, columns), rows, (len(TASKS), 4, columns), (len(TASKS), 4, rows))
    weight, bias, x, target = (torch.randn(s, generator=generator, dtype=torch.float64) for s in sizes)
    return weight / columns**0.5, bias, x, target


@pytest.mark.parametrize(
    ("shape", "rank", "skills", "splits"),
    [((9, 7), 2, 3, 1), ((6, 9), 1, 4, 3), ((10, 15), 3, 2, 5), ((12, 8), 2, 1, 4)],
)
def test_the_layer_its_router_and_their_training_are_the_averages_of_active_skills(shape, rank, skills, splits):
    """Shares as in equation 3 of Ponti 2022, and the slices of Caccia 2022: each slice of a side has shares of its own."""
    weight, bias, x, target = problem(shape)
    method = adapter("poly", rank=rank, tasks=3, skills=skills, splits=splits)
    layer = moved(method.init(weight, context(weight)), size=0.4)
    router = moved(method.init_router(shape[1], context(weight)), size=0.5, seed=2)
    names = list(layer.trainable)
    assert names == ["a", "b"]

    def loss_by_hand(a, b, logits):
        total = 0
        for i, task in enumerate(TASKS):
            active = 1 / (1 + np.exp(-logits[..., 0, task, :, :]))
            shares = active / active.sum(-1, keepdims=True)
            skill_a, skill_b = (
                sum(shares[..., k, None, None] * each[..., k, :, :] for k in range(skills)) for each in (a, b)
            )
            into = np.concatenate([skill_a[..., q, :, :] for q in range(splits)], axis=-2)
            out = np.concatenate([skill_b[..., q, :, :] for q in range(splits)], axis=-1)
            y = x[i].numpy() @ (weight.numpy().T + into @ out / rank) + bias.numpy()
            total = total + ((y - target[i].numpy()) ** 2).mean((-2, -1)) / len(TASKS)
        return total

    def loss(leaves):
        shares = method.route(dataclasses.replace(router, trainable={"logits": leaves[2]}), signal, 1)[0]
        state = dataclasses.replace(layer, trainable=dict(zip(names, leaves, strict=False)))
        return (method.forward(state, x, Plain(weight, bias), shares) - target).square().mean()

    signal = Signal(TASKS, hidden=None, training=False)
    start = [t.numpy() for t in (*layer.trainable.values(), router["logits"])]
    leaves = [torch.from_numpy(t).clone().requires_grad_() for t in start]
    value = loss(leaves)
    value.backward()
    agree(value.item(), float(loss_by_hand(*start)))
    for leaf, gradient in zip(leaves, complex_step(loss_by_hand, start), strict=True):
        agree(leaf.grad, torch.from_numpy(gradient))
    descend(lambda: loss(leaves), leaves, SGD, steps=3)
    for leaf, end in zip(leaves, descend_by_hand(loss_by_hand, start, **SGD.keywords, steps=3), strict=True):
        agree(leaf.detach(), torch.from_numpy(end))


def test_the_authors_layout_of_skills_gives_the_same_layer():
    """Polytropon keeps each skill as one row, mixes rows by the shares, and reads a matrix from the mixture."""
    weight, bias, x, _ = problem((9, 7))
    method = adapter("poly", rank=2, tasks=3, skills=4)
    state = moved(method.init(weight, context(weight)), size=0.4)
    logits = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    active = torch.sigmoid(logits[TASKS])
    shares = active / active.sum(-1, keepdim=True)
    skills_a, skills_b = (state[name][0].flatten(1) for name in ("a", "b"))
    mixed_a = (shares @ skills_a).view(len(TASKS), 7, 2)
    mixed_b = (shares @ skills_b).view(len(TASKS), 2, 9)
    expected = x @ weight.T + bias + x @ mixed_a @ mixed_b / 2
    agree(method.forward(state, x, Plain(weight, bias), shares[:, None]), expected)


@pytest.mark.parametrize(("splits", "skills"), [(1, 2), (2, 3), (4, 5)])
@pytest.mark.parametrize("training", [False, True])
def test_a_model_trains_as_in_peft(splits, skills, training, tokens):
    """In training mode the shares are noisy: the same numbers are drawn here, for all layers at once."""
    model = lively(tiny_llama())
    config = PolyConfig(task_type="CAUSAL_LM", r=3, n_tasks=3, n_skills=skills, n_splits=splits, target_modules=TARGETS)
    theirs = get_peft_model(copy.deepcopy(model), config).double()
    handle = attach(model, adapter("poly", rank=3, tasks=3, skills=skills, splits=splits), targets=TARGETS)
    noisy(handle.parameters(), 0.5)
    router, *sites = handle.sites.values()
    layers = [m for m in theirs.modules() if hasattr(m, "poly_lora_A") and hasattr(m, "base_layer")]

    def pairs():
        for i, (site, layer) in enumerate(zip(sites, layers, strict=True)):
            yield site.a, layer.poly_lora_A["default"]
            yield site.b, layer.poly_lora_B["default"]
            yield router.logits[i].flatten(1), layer.poly_router["default"].module_logits

    with torch.no_grad():
        for own, other in pairs():
            other.copy_(own)
    tasks = torch.tensor([2, 1])
    batch = {"input_ids": tokens, "task_ids": tasks}

    def loss(m):
        torch.manual_seed(5)
        return loss_of(m(**batch).logits, tokens)

    for m in (model, theirs):
        m.train(training)
    trained = [p for p in theirs.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == handle.parameter_count
    same_descent(
        descend(lambda: loss(model), list(handle.parameters()), ADAMW), descend(lambda: loss(theirs), trained, ADAMW)
    )
    for own, other in pairs():
        agree(own.detach(), other.detach())


@pytest.mark.parametrize("splits", [1, 4])
def test_the_start_is_the_authors(splits):
    weight = torch.zeros(64, 400)
    state = adapter("poly", rank=8, skills=4, splits=splits).init(weight, context(weight))
    bound = 1 / (3 * 400) ** 0.5
    assert state["a"].abs().max() <= bound
    assert state["a"].abs().max() > 0.99 * bound
    assert state["a"].std().item() == pytest.approx(bound / 3**0.5, rel=0.03)
    assert not state["b"].any()
    logits = adapter("poly", tasks=50, skills=40).init_router(64, context(weight))["logits"]
    assert 0.99e-3 < logits.abs().max() <= 1e-3
