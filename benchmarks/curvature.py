"""Top Hessian eigenvalues at the start, beside the learning rates that the quick study found best.

    python -m benchmarks.curvature [METHOD ...]

For each contestant of the quick study, sized as there, the largest and the smallest eigenvalue of the Hessian of the loss on
one batch of `prose` in the adapter's own parameters, before training. Writes `benchmarks/results/curvature.md`.
"""

from __future__ import annotations

import argparse
import csv
import importlib.resources
import math
import time
from pathlib import Path

import torch

from adapterlab.adapters import adapter
from adapterlab.geometry.curvature import curvature, training_loss
from adapterlab.lab.statistics.rank_correlation import rank_correlation
from adapterlab.models.loading import load
from adapterlab.surgery.sizing import sized
from adapterlab.tasks import task
from adapterlab.tasks.base import Part

RESULTS = Path(__file__).parent / "results/curvature.md"
METHODS = ("pissa", "oft", "dora", "lora", "ia3", "vera")
BUDGET, BATCH, LENGTH = 160_000, 4, 128
TASK = "prose"
PAGE = """# Curvature at the start, beside the best learning rate

`python -m benchmarks.curvature`: the embedded model, `{task}`, one batch of {batch} x {length} tokens, contestants with at
most {budget:,} parameters. The eigenvalues are those of the Hessian of the mean loss in the adapter's own parameters before
training, by the Lanczos method on Hessian-vector products. A method whose start has a block of zeros has a saddle there, and
eigenvalues of both signs. The rates are those that the search of the quick study found best
(`adapterlab/evidence/data/adapterlab-quick.csv`).

| method | parameters | largest eigenvalue | smallest | products | best rate | rate x eigenvalue | CPU seconds |
|---|--:|--:|--:|--:|--:|--:|--:|
{rows}

Rank correlation of the largest eigenvalue with the best rate over {pairs} methods: {rho:.2f} ({low:.2f} to {high:.2f}). The
slope of the logarithm of the rate over that of the eigenvalue is {slope:.2f}. Were the best rate a constant divided by the
curvature (arXiv 2602.04998, section 6), the slope would be -1, and the last product the same for all.
"""


def best_rates() -> dict[str, float]:
    """Return the learning rates that the quick study found best on the task, by method."""
    text = (importlib.resources.files("adapterlab.evidence") / "data/adapterlab-quick.csv").read_text()
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {row["method"]: float(row["learning_rate"]) for row in rows if row["task"] == TASK and row["learning_rate"]}


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=METHODS)
    chosen = parser.parse_args().methods
    torch.set_num_threads(1)
    model, tokenizer = load()
    described = task(TASK)
    examples = described.examples(Part.TRAIN, tokenizer, LENGTH, BATCH)
    loss = training_loss(described, [examples.rows(slice(0, BATCH))])
    rates = best_rates()
    lines, largest = [], []
    for name in chosen:
        started = time.process_time()
        found = curvature(model, sized(adapter(name), model, BUDGET), loss, prompted=False)
        seconds = time.process_time() - started
        largest.append(found.largest)
        lines.append(
            f"| {name} | {found.parameters:,} | {found.largest:.3g} | {found.smallest:.3g} | {found.iterations} "
            f"| {rates[name]:g} | {rates[name] * found.largest:.2g} | {seconds:.0f} |"
        )
        print(lines[-1], flush=True)
    best = [rates[name] for name in chosen]
    correlation = rank_correlation(largest, best)
    x, y = [torch.tensor([math.log(value) for value in values]) for values in (largest, best)]
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
    RESULTS.write_text(
        PAGE.format(
            task=TASK,
            batch=BATCH,
            length=LENGTH,
            budget=BUDGET,
            rows="\n".join(lines),
            pairs=len(chosen),
            rho=correlation.rho,
            low=correlation.low,
            high=correlation.high,
            slope=slope,
        )
    )


if __name__ == "__main__":
    main()
