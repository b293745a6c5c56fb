"""Time a batch whose rows have different LoRAs: here, in PEFT, and with one LoRA for all rows.

    python benchmarks/mixed_batch.py [--rows 8] [--tokens 128] [--adapters 1 2 4 8] [--rounds 9]

Both libraries have the same base and ranks. Times are of the processor. In each round every variant runs once, so that other
load on the machine changes all alike; the medians are relative to one adapter for all rows in the same library.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import peft
import torch
from torch import Tensor, nn

import adapterlab
from adapterlab.models.loading import load_causal

RANK = 8


def ours(adapters: int) -> nn.Module:
    """Return the embedded model with LoRAs attached."""
    model, _ = load_causal()
    for i in range(adapters):
        handle = adapterlab.attach(model, adapterlab.adapter("lora", rank=RANK), name=f"x{i}").requires_grad_(False)
        for parameter in handle.parameters():
            nn.init.normal_(parameter, std=0.02)
    return model


def theirs(adapters: int) -> nn.Module:
    """Return the embedded model with LoRAs of PEFT."""
    model, _ = load_causal()
    config = peft.LoraConfig(r=RANK, lora_alpha=16, target_modules="all-linear")
    wrapped: nn.Module = peft.get_peft_model(model, config, adapter_name="x0")
    for i in range(1, adapters):
        wrapped.add_adapter(f"x{i}", config)
    return wrapped.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--adapters", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tokens = torch.randint(0, 200, (options.rows, options.tokens))
    print("adapters  ours, s  ours/one  PEFT, s  PEFT/one")
    for adapters in options.adapters:
        names = [f"x{row % adapters}" for row in range(options.rows)]
        mine, other = ours(adapters), theirs(adapters)
        adapterlab.set_active(mine, "x0")
        calls: dict[str, Callable[[], Tensor]] = {
            "ours one": lambda mine=mine: mine(input_ids=tokens).logits,
            "ours": lambda mine=mine, names=names: mine(input_ids=tokens, adapter_names=names).logits,
            "PEFT one": lambda other=other: other(input_ids=tokens).logits,
            "PEFT": lambda other=other, names=names: other(input_ids=tokens, adapter_names=names).logits,
        }
        times: dict[str, list[float]] = {name: [] for name in calls}
        with torch.no_grad():
            for _ in range(options.rounds + 1):
                for name, call in calls.items():
                    start = time.process_time()
                    call()
                    times[name].append(time.process_time() - start)
        best = {name: median(found[1:]) for name, found in times.items()}
        print(
            f"{adapters:8}  {best['ours']:7.3f}  {best['ours'] / best['ours one']:8.2f}"
            f"  {best['PEFT']:7.3f}  {best['PEFT'] / best['PEFT one']:8.2f}"
        )


if __name__ == "__main__":
    main()
