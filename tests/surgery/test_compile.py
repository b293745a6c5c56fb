"""An adapted model compiles as one graph, in a process of its own: there no test checks the shapes."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from adapterlab.adapters import adapter
from adapterlab.surgery import attach

shape = dict(vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
tokens = torch.randint(0, 32, (2, 9), generator=torch.Generator().manual_seed(0))
for name in ("lora", "reft"):
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**shape, use_cache=False))
    handle = attach(model, adapter(name, rank=2))
    found = []
    for run in (model, torch.compile(model, backend="eager", fullgraph=True)):
        loss = run(input_ids=tokens, labels=tokens).loss
        loss.backward()
        found.append([loss.detach(), *(p.grad.clone() for p in handle.parameters())])
        model.zero_grad()
    for own, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, own)
"""


def test_a_linear_method_and_one_of_the_stream_compile_without_a_break():
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", SCRIPT], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
