"""SSVD against the paper's equations in numpy and scipy, and against the authors' layer in ESPnet written out again.

PEFT has no SSVD. The authors' layer differs from the paper in three points, in each of which the paper is followed:

- A trained `sigmoid(gate)`, one half at the start, multiplies the shift of the singular values. Equation 8 has no gate.
- For a layer with more inputs than outputs it decomposes the transposed weight and so rotates the singular vectors of
  the *outputs*. Equation 8 rotates the inputs, which is what the paper is about, and keeps the outputs.
- The shift starts at random (`kaiming_uniform_`), so that the model does not start as the base; later versions of ESPnet
  start at zero, as here.
"""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import scipy.linalg
import torch
from torch.func import functional_call

from adapterlab.adapters import adapter
from adapterlab.surgery import attach
from tests.adapters.methods import context, moved, noisy
from tests.adapters.oracles.descent import (
    ADAMW,
    SGD,
    agree,
    complex_step,
    descend,
    descend_by_hand,
    same_descent,
)
from tests.adapters.oracles.functional import Plain
from tests.adapters.oracles.models import lively, loss_of
from tests.conftest import tiny_gpt2, tiny_llama

SHAPES = [((9, 7), 4), ((7, 9), 5), ((12, 12), 12), ((5, 30), 1), ((24, 10), 7)]
ROTATIONS = ["approximate", "strict", "free"]


def singular(weight, like):
    """The decomposition by scipy, with the signs that ours happens to have: they are free."""
    u, s, vt = scipy.linalg.svd(weight, full_matrices=False)
    signs = np.ones(len(s))
    signs[: like.shape[1]] = np.sign((u[:, : like.shape[1]] * like).sum(0))
    return u * signs, s, vt * signs[:, None]


def turn(rotation, given, k):
    """Equations 10 and 13 and section III-C."""
    if rotation == "free":
        return given
    skew = np.zeros((*given.shape[:-1], k, k), dtype=given.dtype)
    skew[..., *np.triu_indices(k, 1)] = given
    skew = skew - skew.swapaxes(-1, -2)
    eye = np.eye(k)
    return eye - 2 * skew if rotation == "approximate" else (eye - skew) @ np.linalg.inv(eye + skew)


def adapted(factors, rotation, shift, given):
    """Equations 8 and 9, with whole matrices."""
    u, s, vt = factors
    k, n = shift.shape[-1], len(s)
    g = np.zeros((*shift.shape[:-1], n, n), dtype=np.result_type(shift, given)) + np.eye(n)
    g[..., :k, :k] = turn(rotation, given, k)
    shifted = s + np.concatenate([shift, np.zeros((*shift.shape[:-1], n - k))], axis=-1)
    return (u * shifted[..., None, :]) @ g @ vt


def problem(shape):
    """A layer, inputs and targets."""
    generator = torch.Generator().manual_seed(sum(shape))
    rows, columns = shape
    weight, bias, x, target = (
        torch.randn(s, generator=generator, dtype=torch.float64)
        for s in ((rows, columns), rows, (5, columns), (5, rows))
    )
    return weight / columns**0.5, bias, x, target


@pytest.mark.parametrize("rotation", ROTATIONS)
@pytest.mark.parametrize(("shape", "rank"), SHAPES)
def test_the_layer_its_gradients_and_its_training_are_those_of_equations_8_to_13(shape, rank, rotation):
    weight, bias, x, target = problem(shape)
    method = adapter("ssvd", rank=rank, rotation=rotation)
    state = moved(method.init(weight, context(weight)), size=0.2)
    factors = singular(weight.numpy(), state["u"].numpy())

    def loss_by_hand(shift, given):
        y = x.numpy() @ adapted(factors, rotation, shift, given).swapaxes(-1, -2) + bias.numpy()
        return ((y - target.numpy()) ** 2).mean((-2, -1))

    def loss(leaves):
        y = method.forward(dataclasses.replace(state, trainable=leaves), x, Plain(weight, bias))
        return (y - target).square().mean()

    start = [t.numpy() for t in state.trainable.values()]
    agree(method.weight(state, weight), torch.from_numpy(adapted(factors, rotation, *start)))
    leaves = {name: t.clone().requires_grad_() for name, t in state.trainable.items()}
    value = loss(leaves)
    value.backward()
    agree(value.item(), float(loss_by_hand(*start)))
    for leaf, gradient in zip(leaves.values(), complex_step(loss_by_hand, start), strict=True):
        agree(leaf.grad, torch.from_numpy(gradient))

    descend(lambda: loss(leaves), list(leaves.values()), SGD, steps=3)
    ends = descend_by_hand(loss_by_hand, start, **SGD.keywords, steps=3)
    for leaf, end in zip(leaves.values(), ends, strict=True):
        agree(leaf.detach(), torch.from_numpy(end))


@pytest.mark.parametrize(("shape", "rank"), SHAPES)
def test_the_strict_rotation_is_the_exponential_of_a_skew_symmetric_matrix(shape, rank):
    """`(I - K)(I + K)^-1 = exp(-2 artanh K)`: singular values and left singular vectors stay unless they are shifted."""
    weight, *_ = problem(shape)
    method = adapter("ssvd", rank=rank, rotation="strict")
    state = moved(method.init(weight, context(weight)), size=0.1)
    k = np.zeros((rank, rank))
    k[np.triu_indices(rank, 1)] = state["skew"]
    k = k - k.T
    expected = scipy.linalg.expm(-2 * np.real(scipy.linalg.funm(k, np.arctanh))) if rank > 1 else np.eye(1)
    agree(method.turn(state, 1.0), torch.from_numpy(expected))
    shift = torch.zeros(rank, dtype=torch.float64)
    turned = method.weight(dataclasses.replace(state, trainable={**state.trainable, "shift": shift}), weight)
    agree(turned @ turned.T, weight @ weight.T)


def authors_layer(weight, k):
    """The authors' layer as a function of its shift, gate and upper triangle, for tall and for wide weights."""
    tall = weight.shape[0] >= weight.shape[1]
    u, s, vt = torch.linalg.svd(weight if tall else weight.T, full_matrices=False)

    def build(shift, gate, upper):
        sigma = s + torch.cat([shift * torch.sigmoid(gate), s.new_zeros(len(s) - k)])
        rows, columns = torch.triu_indices(k, k, 1)
        eye = torch.eye(k, dtype=s.dtype)
        top = eye.index_put((rows, columns), -2 * upper).index_put((columns, rows), 2 * upper) @ vt[:k]
        whole = u @ torch.diag(sigma) @ torch.cat([top, vt[k:]])
        return whole if tall else whole.T

    return (u, s, vt), build


@pytest.mark.parametrize(("shape", "rank"), [((9, 7), 4), ((12, 12), 12), ((24, 10), 7)])
def test_on_tall_weights_it_is_the_authors_layer_with_the_gate_held(shape, rank):
    """Their shift is ours over the gate, and its gradient ours times the gate."""
    weight, _, x, target = problem(shape)
    (u, *_), build = authors_layer(weight, rank)
    method = adapter("ssvd", rank=rank)
    state = moved(method.init(weight, context(weight)), size=0.2)
    signs = (u[:, :rank] * state["u"]).sum(0).sign()
    rows, columns = torch.triu_indices(rank, rank, 1)
    gate = torch.tensor([0.4], dtype=torch.float64)
    ours = {name: t.clone().requires_grad_() for name, t in state.trainable.items()}
    theirs = [
        (state["shift"] / torch.sigmoid(gate)).requires_grad_(),
        (state["skew"] * signs[rows] * signs[columns]).requires_grad_(),
    ]
    for w in (
        method.weight(dataclasses.replace(state, trainable=ours), weight),
        build(theirs[0], gate, theirs[1]),
    ):
        agree(w, method.weight(state, weight))
        (x @ w.T - target).square().mean().backward()
    agree(ours["shift"].grad * torch.sigmoid(gate), theirs[0].grad)
    agree(ours["skew"].grad * signs[rows] * signs[columns], theirs[1].grad)


def test_on_wide_weights_the_inputs_rotate_and_the_outputs_stay_where_the_authors_layer_does_the_opposite():
    """Equation 8: `U^T W' V` is `(S + dS) G`, whichever side is longer."""
    weight, *_ = problem((7, 11))
    (_, _, outputs), build = authors_layer(weight, 7)
    method = adapter("ssvd", rank=7, rotation="strict")
    state = moved(method.init(weight, context(weight)), size=0.2)
    ours = method.weight(state, weight)
    agree(state["u"].T @ ours @ state["vt"].T, (state["s"] + state["shift"])[:, None] * method.turn(state, 1.0))
    upper = state["skew"]
    theirs = build(torch.zeros(7, dtype=torch.float64), torch.zeros(1, dtype=torch.float64), upper)
    off = (outputs @ theirs @ theirs.T @ outputs.T).fill_diagonal_(0)
    assert off.abs().max() > 1e-2, "their left singular vectors have moved"
    unturned = outputs @ weight @ weight.T @ outputs.T
    agree(unturned, torch.diag(torch.diagonal(unturned)))


@pytest.mark.parametrize("rotation", ROTATIONS)
@pytest.mark.parametrize("make", [tiny_gpt2, lambda: tiny_llama(hidden_size=24, intermediate_size=40)])
def test_a_model_trains_as_one_whose_weights_are_built_from_whole_matrices(make, rotation, tokens):
    """Every linear layer of the model, wide, square and tall, by AdamW."""
    model = lively(make())
    dense = copy.deepcopy(model)
    rank = 5
    handle = attach(model, adapter("ssvd", rank=rank, rotation=rotation))
    noisy(handle.parameters(), 0.1)
    layers, leaves = {}, {}
    for path, site in handle.sites.items():
        layer = dense.get_submodule(path)
        transposed = type(layer).__name__ == "Conv1D"
        u, s, vt = torch.linalg.svd(
            layer.weight.detach().T if transposed else layer.weight.detach(), full_matrices=False
        )
        signs = torch.ones_like(s)
        signs[:rank] = (u[:, :rank] * site.u).sum(0).sign()
        layers[path] = u * signs, s, vt * signs[:, None], transposed
        leaves[path] = [p.detach().clone().requires_grad_() for p in site.parameters()]

    def built(path):
        (u, s, vt, transposed), (shift, given) = layers[path], leaves[path]
        rows, columns = torch.triu_indices(rank, rank, 1)
        eye = torch.eye(rank, dtype=s.dtype)
        k = torch.zeros_like(eye) if rotation == "free" else torch.zeros_like(eye).index_put((rows, columns), given)
        k = k - k.T
        turns = {"free": given, "approximate": eye - 2 * k, "strict": torch.linalg.solve(eye + k, eye - k)}
        g = torch.block_diag(turns[rotation], torch.eye(len(s) - rank, dtype=s.dtype))
        weight = u @ torch.diag(s + torch.cat([shift, s.new_zeros(len(s) - rank)])) @ g @ vt
        return weight.T if transposed else weight

    def loss():
        weights = {f"{path}.weight": built(path) for path in layers}
        return loss_of(functional_call(dense, weights, (tokens,)).logits, tokens)

    ours = descend(lambda: loss_of(model(tokens).logits, tokens), list(handle.parameters()), ADAMW)
    same_descent(ours, descend(loss, [p for pair in leaves.values() for p in pair], ADAMW))
    for path, site in handle.sites.items():
        for own, other in zip(site.parameters(), leaves[path], strict=True):
            agree(own.detach(), other.detach())
