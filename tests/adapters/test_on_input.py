"""Choice between applying an update to every input and building it into the weight, against counted multiplications."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import adapterlab
from adapterlab.adapters.linear import LinearAdapter

WEIGHT = torch.zeros(3, 5)


def applied(inputs: int, each: int, once: int, weight: torch.Tensor = WEIGHT) -> bool:
    return LinearAdapter.on_input(torch.zeros(inputs, 5), weight, each, once)


def test_the_rule_compares_the_multiplications_of_a_training_step():
    """Building costs 3 x 8 and its weight gradient 4 x 3 x 5 for 4 inputs, 84 in all; applying costs 3 x 4 x `each`."""
    assert not applied(4, each=7, once=8)
    assert applied(4, each=6, once=8)
    assert applied(4, each=7, once=9)
    assert not applied(4, each=8, once=8)


def test_each_input_counts_and_the_batch_is_flattened():
    """An input costs 15 for the weight gradient of a built update, and 3 x `each` if the update is applied to it."""
    assert all(applied(inputs, each=4, once=0) for inputs in (1, 10, 1000))
    assert [inputs for inputs in range(1, 8) if applied(inputs, each=6, once=5)] == [1, 2, 3, 4]
    for shape in ((4, 5), (2, 2, 5), (4, 1, 5)):
        assert LinearAdapter.on_input(torch.zeros(shape), WEIGHT, 6, 5)
    for shape in ((5, 5), (5, 1, 5), (1, 5, 5)):
        assert not LinearAdapter.on_input(torch.zeros(shape), WEIGHT, 6, 5)


def test_the_update_is_applied_to_inputs_if_only_the_weights_shape_is_known():
    meta = torch.zeros(3, 5, device="meta")
    assert applied(4, each=10**6, once=0, weight=meta)
    assert not LinearAdapter.on_input(torch.zeros(4, 5, device="meta"), meta, 10**6, 0)


def multiplications(layer: nn.Module, x: torch.Tensor) -> int:
    """Count the multiplications in the matrix products of a training step."""
    with FlopCounterMode(display=False) as counter:
        layer(x).sum().backward()
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(("name", "rank"), [("loha", 5), ("randlora", 3), ("vera", 16)])
def test_methods_choose_the_computation_with_fewer_multiplications(name, rank, monkeypatch):
    """Compare the choice with the multiplications that torch counts, unless they differ by less than a tenth.

    VeRA of a lower rank is cheaper on any number of inputs, since its two matrices have no gradient.
    """
    counted: dict[bool, list[int]] = {}
    sizes = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    chosen, choose = [], LinearAdapter.on_input

    def counts(on_input) -> list[int]:
        monkeypatch.setattr(LinearAdapter, "on_input", staticmethod(on_input))
        return [multiplications(model, torch.randn(inputs, 48, requires_grad=True)) for inputs in sizes]

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(48, 40), nn.Identity())
    adapterlab.attach(model, adapterlab.adapter(name, rank=rank))
    for way in (True, False):
        counted[way] = counts(lambda *_, way=way, **__: way)
    counts(lambda *args, **kwargs: chosen.append(choose(*args, **kwargs)) or chosen[-1])
    clear = [abs(a - b) > 0.1 * b for a, b in zip(counted[True], counted[False], strict=True)]
    assert set(chosen) == {True, False}
    assert sum(clear) >= 6
    for on_input, a, b, differ in zip(chosen, counted[True], counted[False], clear, strict=True):
        assert not differ or on_input == (a < b)


@pytest.mark.parametrize(
    ("shape", "inputs", "n", "on_input"),
    [
        ((256, 256), 512, 12_000, False),
        ((256, 256), 512, 3000, False),
        ((256, 256), 512, 5, False),  # the transforms of the inputs alone cost more than a built weight
        ((1024, 1024), 64, 100, True),
        ((1024, 1024), 64, 12_000, False),
        ((576, 192), 16, 20_000, False),
    ],
)
def test_fourierft_counts_its_coefficients(shape, inputs, n, on_input, monkeypatch):
    """`each` is 100 (rows + columns) + 400 n, and `once` 100 rows columns - 10 million."""
    rows, columns = shape
    given = []
    choose = LinearAdapter.on_input
    monkeypatch.setattr(LinearAdapter, "on_input", staticmethod(lambda *args: given.append(args) or choose(*args)))
    model = nn.Sequential(nn.Linear(columns, rows))
    adapterlab.attach(model, adapterlab.adapter("fourierft", n=n))
    x = torch.randn(inputs, columns)
    model(x)
    ((*_, each, once),) = given
    assert (each, once) == (100 * (rows + columns) + 400 * n, 100 * rows * columns - 10_000_000)
    assert choose(*given[0]) == on_input == (3 * inputs * each < 3 * once + inputs * rows * columns)
