"""BOFT with any number of factors, against the paper's equations in numpy and against PEFT's layer.

PEFT's layer is the authors' own, down to its order of blocks and of factors.
"""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import peft
import pytest
import torch
from peft import BOFTConfig, get_peft_model

from adapterlab.adapters import adapter
from adapterlab.adapters.rotations import skew_symmetric
from adapterlab.surgery import attach
from tests.adapters.methods import context, moved, noisy
from tests.adapters.oracles.descent import SGD, agree, complex_step, descend, descend_by_hand, same_descent
from tests.adapters.oracles.functional import Plain, the_same_in_peft
from tests.adapters.oracles.models import lively, loss_of
from tests.conftest import tiny_llama

SHAPES = [  # (out, in), block_size, factors
    ((5, 12), 6, 1),
    ((7, 12), 6, 2),
    ((6, 48), 4, 3),
    ((9, 40), 10, 3),
    ((4, 16), 2, 4),
    ((3, 48), 6, 4),
]


def skew(upper, size):
    """Skew-symmetric matrices with these upper triangles."""
    q = np.zeros((*upper.shape[:-1], size, size), dtype=upper.dtype)
    q[..., *np.triu_indices(size, 1)] = upper
    return q - q.swapaxes(-1, -2)


def diagonal(blocks):
    """Matrices with these blocks along the diagonal."""
    *batch, count, rows, columns = blocks.shape
    matrix = np.zeros((*batch, count, rows, count, columns), dtype=blocks.dtype)
    for i in range(count):
        matrix[..., i, :, i, :] = blocks[..., i, :, :]
    return matrix.reshape(*batch, count * rows, count * columns)


def butterfly(blocks):
    """Equation 1 with matrices as entries: a quadrant of each block on each of four diagonals."""
    half = blocks.shape[-1] // 2
    sides = slice(None, half), slice(half, None)
    return np.block([[diagonal(blocks[..., a, b]) for b in sides] for a in sides])


def rotated(x, upper, size):
    """Equation 2: `B~(d, 2^m) ... B~(d, 2) x`, each component block-diagonal with butterflies of Cayley transforms."""
    q, eye = skew(upper, size), np.eye(size)
    cayley = (eye + q) @ np.linalg.inv(eye - q)
    for i in range(upper.shape[-3]):
        blocks = cayley[..., i, :, :, :]
        if size % 2 == 0:  # an odd block is OFT's, and stands alone
            blocks = butterfly(blocks.reshape(*blocks.shape[:-3], -1, 2**i, size, size))
        x = diagonal(blocks) @ x
    return x


def problem(shape):
    """A layer, inputs and targets."""
    generator = torch.Generator().manual_seed(sum(shape))
    rows, columns = shape
    weight, bias, x, target = (
        torch.randn(s, generator=generator, dtype=torch.float64)
        for s in ((rows, columns), rows, (5, columns), (5, rows))
    )
    return weight / columns**0.5, bias, x, target


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize(("shape", "size", "factors"), [*SHAPES, ((4, 9), 3, 1)])
def test_the_layer_its_gradients_and_its_training_are_those_of_equations_1_and_2(shape, size, factors, rescale):
    weight, bias, x, target = problem(shape)
    method = adapter("boft", block_size=size, factors=factors, rescale=rescale)
    state = moved(method.init(weight, context(weight)), size=0.3)

    def loss_by_hand(upper, scale=None):
        turned = rotated(weight.numpy().T, upper, size)
        adapted = turned if scale is None else turned * scale[..., None, :]
        return ((x.numpy() @ adapted + bias.numpy() - target.numpy()) ** 2).mean((-2, -1))

    def loss(leaves):
        y = method.forward(dataclasses.replace(state, trainable=leaves), x, Plain(weight, bias))
        return (y - target).square().mean()

    start = [t.numpy() for t in state.trainable.values()]
    leaves = {name: t.clone().requires_grad_() for name, t in state.trainable.items()}
    value = loss(leaves)
    value.backward()
    agree(value.item(), float(loss_by_hand(*start)))
    for leaf, gradient in zip(leaves.values(), complex_step(loss_by_hand, start), strict=True):
        agree(leaf.grad, torch.from_numpy(gradient))

    descend(lambda: loss(leaves), list(leaves.values()), SGD, steps=3)
    ends = descend_by_hand(loss_by_hand, start, **SGD.keywords, steps=3)
    for leaf, before, end in zip(leaves.values(), start, ends, strict=True):
        assert not np.allclose(before, end, atol=1e-3)
        agree(leaf.detach(), torch.from_numpy(end))


@pytest.mark.parametrize(("shape", "size", "factors"), SHAPES[1:])
def test_with_all_factors_or_few_it_is_a_rotation(shape, size, factors):
    """The closed form itself: orthogonal, with determinant one, dense only where the factors reach."""
    upper = np.random.default_rng(0).normal(size=(factors, shape[1] // size, size * (size - 1) // 2))
    r = rotated(np.eye(shape[1]), upper, size)
    np.testing.assert_allclose(r @ r.T, np.eye(shape[1]), atol=1e-12)
    assert np.linalg.det(r) == pytest.approx(1.0)
    reach = size * 2 ** (factors - 1)
    within = diagonal(np.ones((shape[1] // reach, reach, reach))) > 0
    assert (r[within] != 0).all()
    assert (r[~within] == 0).all()


@pytest.fixture
def butterflies(monkeypatch):
    """PEFT's own extension for more than one factor needs a compiler; it only lays blocks on a diagonal."""

    class Diagonals:
        @staticmethod
        def apply(blocks):
            return torch.stack([torch.block_diag(*factor) for factor in blocks])

    monkeypatch.setattr(peft.tuners.boft.layer, "get_fbd_cuda", lambda: True)
    monkeypatch.setattr(peft.tuners.boft.layer, "FastBlockDiag", Diagonals)


def as_in_peft(state, size):
    """PEFT's transform is (I - A)(I + A)^-1 with A the skew-symmetric part of a full matrix."""
    return {"boft_R.default": -skew_symmetric(state["skew"], size), "boft_s.default": state["scale"][:, None]}


@pytest.mark.parametrize(("shape", "size", "factors"), SHAPES)
def test_the_layer_is_pefts(shape, size, factors, butterflies):
    config = BOFTConfig(boft_block_size=size, boft_n_butterfly_factor=factors)
    method = adapter("boft", block_size=size, factors=factors, rescale=True)
    the_same_in_peft(method, config, lambda state: as_in_peft(state, size), shape)


@pytest.mark.parametrize(("size", "factors"), [(6, 2), (4, 3), (2, 4), (6, 4)])
def test_a_model_trains_as_pefts_does(size, factors, butterflies, tokens):
    """Five layers of each block, whose inputs are 48 and 96 wide.

    PEFT trains both triangles of a full matrix and takes half their difference, so that its gradient is half of ours.
    """
    model = lively(tiny_llama(hidden_size=48, intermediate_size=96))
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "down_proj"]
    config = BOFTConfig(boft_block_size=size, boft_n_butterfly_factor=factors, target_modules=targets)
    theirs = get_peft_model(copy.deepcopy(model), config).double()
    handle = attach(model, adapter("boft", block_size=size, factors=factors, rescale=True), targets)
    noisy(handle.parameters(), 0.1)
    layers = {path: theirs.get_submodule(f"base_model.model.{path}") for path in handle.sites}
    assert len(layers) == 10
    for path, site in handle.sites.items():
        for name, tensor in as_in_peft(site.state, size).items():
            owner, _, last = name.rpartition(".")
            getattr(layers[path].get_submodule(owner), last).data = tensor.detach().clone()

    ours = descend(lambda: loss_of(model(tokens).logits, tokens), list(handle.parameters()), SGD)

    def twice_as_fast_for_the_full_matrices(_):
        groups = [[p for n, p in theirs.named_parameters() if kind in n] for kind in ("boft_R", "boft_s")]
        rate = SGD.keywords["lr"]
        return SGD([{"params": groups[0], "lr": 2 * rate}, {"params": groups[1], "lr": rate}])

    same_descent(ours, descend(lambda: loss_of(theirs(tokens).logits, tokens), [], twice_as_fast_for_the_full_matrices))
    for path, site in handle.sites.items():
        for name, tensor in as_in_peft(site.state, size).items():
            owner, _, last = name.rpartition(".")
            found = getattr(layers[path].get_submodule(owner), last).detach()
            agree(tensor.detach(), found if owner == "boft_s" else (found - found.mT) / 2)
