"""Adapted models compile as one graph, in a process of its own: there no test checks the shapes."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from adapterlab.adapters import adapter, linear
from adapterlab.surgery import attach

shape = dict(vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
tokens = torch.randint(0, 32, (2, 9), generator=torch.Generator().manual_seed(0))


def adapted(method):
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**shape, use_cache=False)).eval()  # Poly draws numbers in training mode
    handle = attach(model, method)
    with torch.no_grad():
        for p in handle.parameters():
            p.add_(torch.randn_like(p) * 0.05)
    return model, handle
"""

FEW = ("adapter('lora', rank=2), 0", "adapter('bone', block_size=4), 0", "adapter('fourierft', n=20), 0")
MORE = (
    "adapter('reft', rank=2), 0",
    "adapter('poly', rank=2), 0",
    "adapter('bone', block_size=4), 2**18",
    "adapter('loha', rank=1), 0",  # applied to the inputs
    "adapter('loha', rank=6), 0",
    "adapter('shira', rank=2), 0",
    "adapter('c3a', block_size=4), 0",
)
"""A method, and the number of entries up to which its weight is kept."""
ONE_GRAPH = """
for method, small in cases:
    linear.SMALL_WEIGHT = small
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    model, handle = adapted(method)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    found = []
    for run in (model, compiled):
        loss = run(input_ids=tokens, labels=tokens).loss
        loss.backward()
        found.append([loss.detach(), *(p.grad.clone() for p in handle.parameters())])
        model.zero_grad()
    for own, other in zip(*found, strict=True):
        torch.testing.assert_close(other, own)
    losses = set()
    for handle.strength in (0.5, 0.75, 0.25):
        loss = compiled(input_ids=tokens, labels=tokens).loss
        torch.testing.assert_close(loss, model(input_ids=tokens, labels=tokens).loss)
        losses.add(float(loss))
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    # ReFT sees the positions of the eager runs in between, which makes one graph more.
    assert len(losses) == 3 and graphs <= 2 + (method.name == "reft"), (method, losses, graphs)
"""

UNKNOWN_TASK = """
model, _ = adapted(adapter("poly", rank=2, tasks=2))
compiled = torch.compile(model, backend="eager", fullgraph=True)
compiled(input_ids=tokens, task_ids=torch.tensor([0, 1]))
compiled(input_ids=tokens, task_ids=torch.tensor([0, -1]))
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT + script]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("cases", [FEW, pytest.param(MORE, marks=pytest.mark.soak)], ids=["few", "more"])
def test_methods_compile_without_a_break_and_strengths_with_one_more_graph(cases):
    result = run(f"cases = [{', '.join(f'({case})' for case in cases)}]\n{ONE_GRAPH}")
    assert result.returncode == 0, result.stderr[-2000:]


def test_a_compiled_router_refuses_a_task_that_is_not_known():
    result = run(UNKNOWN_TASK)
    assert result.returncode != 0
    assert "task_ids: poly has 2 tasks, 0 to 1" in result.stderr.splitlines()[-1]
