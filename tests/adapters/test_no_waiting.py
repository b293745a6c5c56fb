"""What a GPU needs of every method: nothing waits for it, nothing is computed in float64, no loop grows with the rank."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from adapterlab.surgery import attach
from tests.adapters.methods import ALL, LINEAR, SHIPPED, context, moved, noisy, small
from tests.adapters.test_every_method import Plain, weight_of
from tests.conftest import tiny_llama

WAITS = {
    torch.ops.aten._local_scalar_dense,
    torch.ops.aten.item,
    torch.ops.aten.nonzero,
    torch.ops.aten.masked_select,
    torch.ops.aten._unique2,
    torch.ops.aten.equal,
}
"""What the host cannot go on without an answer from."""
DOUBLE = (torch.float64, torch.complex128)


class Watched(TorchDispatchMode):
    """Counts the operations, those that wait for the device, and those that answer in double precision."""

    def __init__(self):
        super().__init__()
        self.waits, self.doubles, self.all = Counter(), Counter(), Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        answer = func(*args, **(kwargs or {}))
        self.all[str(func)] += 1
        masks = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor) and t.dtype == torch.bool]
        by_mask = func.overloadpacket in (torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_)
        if func.overloadpacket in WAITS or (by_mask and masks):
            self.waits[str(func)] += 1
        if any(isinstance(t, torch.Tensor) and t.dtype in DOUBLE for t in tree_leaves(answer)):
            self.doubles[str(func)] += 1
        return answer


def step(model, tokens):
    """What a training step does, once a step before has filled whatever is filled once."""
    for _ in range(2):
        model.zero_grad()
        with Watched() as seen:
            model(tokens, use_cache=False).logits.float().square().mean().backward()
    return seen


def trained(model):
    model.get_input_embeddings().weight.requires_grad_(True)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ALL)
def test_a_step_waits_for_nothing_and_needs_no_double_precision(name, dtype, tokens):
    base = step(trained(tiny_llama().to(dtype).train()), tokens)
    model = tiny_llama().to(dtype).train()
    handle = attach(model, small(name), seed=1)
    noisy(handle.parameters(), 0.01)
    seen = step(model, tokens)
    passes = 2 if getattr(handle.adapter, "reads_hidden", False) else 1  # the base itself may wait, in each pass
    assert seen.waits <= Counter({operation: passes * count for operation, count in base.waits.items()})
    assert seen.doubles - base.doubles == Counter()


RANKED = [name for name, method in SHIPPED.items() if method.size_knob == "rank"]


@pytest.mark.parametrize("name", RANKED)
def test_a_step_has_as_many_operations_at_any_rank(name, tokens):
    counts = []
    for rank in (8, 16):  # on the same side of where a method goes over to the weight
        model = tiny_llama(hidden_size=64).train()
        handle = attach(model, dataclasses.replace(small(name), rank=rank))
        noisy(handle.parameters(), 0.01)
        counts.append(step(model, tokens).all)
    assert counts[0] == counts[1]


def test_what_waits_or_is_double_is_seen():
    x = torch.randn(3)
    with Watched() as seen:
        assert x.sum().item() != 0
        x[x > 0].double()
    assert seen.waits.total() == 2
    assert seen.doubles.total() == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", LINEAR)
def test_a_gpu_is_never_waited_for(name, dtype):
    method = small(name)
    weight = weight_of(16, 16, dtype).cuda()
    state = moved_to_gpu(method, weight)
    x = torch.randn(5, 16, dtype=torch.float32, device="cuda", requires_grad=True)
    try:
        torch.cuda.set_sync_debug_mode("error")
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            y = method.forward(state, x, Plain(weight.float(), None))
        y.float().square().sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def moved_to_gpu(method, weight):
    state = moved(method.init(weight.cpu(), context(weight.cpu())))
    parts = ({key: t.cuda() for key, t in part.items()} for part in (state.trainable, state.frozen, state.derived))
    trainable, frozen, derived = parts
    return dataclasses.replace(
        state, trainable={k: t.requires_grad_() for k, t in trainable.items()}, frozen=frozen, derived=derived
    )
