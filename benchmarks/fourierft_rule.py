"""Time both ways in which FourierFT computes a layer, on random shapes, beside the way that its rule chooses.

    python -m benchmarks.fourierft_rule --shapes 40

Each line has the CPU time of a forward and a backward pass with the update applied to the inputs and with it built into the
weight, and the time of the chosen way relative to the faster one.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from statistics import median
from unittest.mock import patch

import torch
from torch import nn

from adapterlab.adapters import adapter
from adapterlab.adapters.linear import LinearAdapter
from adapterlab.surgery import attach

SIDES = (64, 96, 192, 256, 576, 768, 1024)
INPUTS = (16, 64, 256, 512, 1024)
ROUNDS = 5


def seconds(layer: nn.Module, x: torch.Tensor, on_input: bool) -> float:
    """Return the CPU seconds of a forward and a backward pass.

    Args:
        layer: The adapted layer.
        x: Its input.
        on_input: True to apply the update to the inputs, False to build it into the weight.
    """
    with patch.object(LinearAdapter, "on_input", staticmethod(lambda *_: on_input)):
        start = time.process_time()
        layer(x).sum().backward()
        return time.process_time() - start


def chosen(layer: nn.Module, x: torch.Tensor) -> bool:
    """Return the choice of the rule: True if the update is applied to the inputs.

    Args:
        layer: The adapted layer.
        x: Its input.
    """
    found, own = list[bool](), LinearAdapter.on_input

    def note(*args: object) -> bool:
        found.append(own(*args))
        return found[-1]

    with patch.object(LinearAdapter, "on_input", staticmethod(note)):
        layer(x)
    return found[0]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.fourierft_rule", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--shapes", type=int, default=40, help="number of random shapes")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    draw, losses = random.Random(options.seed), list[float]()
    for _ in range(options.shapes):
        rows, columns, inputs = draw.choice(SIDES), draw.choice(SIDES), draw.choice(INPUTS)
        n = min(int(10 ** draw.uniform(0.5, 4)), rows * columns)
        layer = nn.Sequential(nn.Linear(columns, rows))
        attach(layer, adapter("fourierft", n=n))
        x = torch.randn(inputs, columns, requires_grad=True)
        rounds = [[seconds(layer, x, way) for way in (True, False)] for _ in range(ROUNDS)]
        on_input, built = (median(times) for times in zip(*rounds[1:], strict=True))
        rule = chosen(layer, x)
        losses.append((on_input if rule else built) / min(on_input, built))
        print(
            f"{rows} x {columns}, {inputs} inputs, n {n}: inputs {1e3 * on_input:.1f} ms, weight {1e3 * built:.1f} ms, "
            f"chosen {'inputs' if rule else 'weight'}, {losses[-1]:.2f} times the faster",
            flush=True,
        )
    print(f"chosen / faster: median {median(losses):.2f}, largest {max(losses):.2f}")


if __name__ == "__main__":
    main()
