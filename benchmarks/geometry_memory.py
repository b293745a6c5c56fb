"""Peak memory and time of `adapterlab geometry` on a synthetic pair of checkpoints.

    python -m benchmarks.geometry_memory                        # a pair of 2 GB in total
    python -m benchmarks.geometry_memory --width 4096 --inner 14336 --vocabulary 128256 --blocks 1 --changed 1

The second one has a block, the embeddings and the output head of Llama 3 8B, and takes 5.1 GB of disk.

The pair is a Llama in bfloat16. Its tuned side differs by a change of rank 8 in the weights of the first blocks; the others
are read and found unchanged, so that the time for reading and that for measuring are separate. A child process measures it.
Peak memory is that of the process less what it takes once everything is imported; the mapped pages of files count.
Memory depends on the largest weight and not on the number of blocks, so the second pair stands for the whole model.
Figures: `results/geometry_memory.md`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

CHILD = """
import sys, time
from pathlib import Path
def resident(name):
    line = next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith(name))
    return int(line.split()[1]) / 2**20
import torch
from adapterlab.harness.geometry import geometry_of
from adapterlab.geometry.plan import Plan
torch.linalg.svd(torch.eye(4))
own, started, stages = resident("VmRSS"), time.monotonic(), {}
def watch(stage, done, total):
    stages.setdefault(stage, time.monotonic() - started)
tuned, base, out, measures, hypotheses, draws = sys.argv[1:]
chosen = None if measures == "all" else measures.split(",")
result = geometry_of(tuned, base, measures=chosen, hypotheses=hypotheses.split(","), draws=int(draws), out=out, watch=watch)
print(own, resident("VmHWM") - own, time.monotonic() - started, stages["measuring the layers"], len(result.layers))
"""


def write_pair(
    folder: Path, width: int, inner: int, blocks: int, changed: int, vocabulary: int, only: str
) -> tuple[Path, Path]:
    """Write the checkpoints block by block.

    Args:
        folder: Where to write.
        width: Width of the model.
        inner: Width of its MLP.
        blocks: Number of blocks.
        changed: Number of blocks that differ, the first ones.
        vocabulary: Rows of the token embeddings, and of the output head, which has weights of its own.
        only: Part of the names of the weights that differ.
    """
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=blocks,
        num_attention_heads=width // 128,
        num_key_value_heads=max(1, width // 512),
        tie_word_embeddings=False,
        architectures=["LlamaForCausalLM"],
    )
    with torch.device("meta"):
        shapes = {name: tuple(p.shape) for name, p in LlamaForCausalLM(config).named_parameters()}
    sides = folder / "base", folder / "tuned"
    indices: tuple[dict[str, str], dict[str, str]] = ({}, {})
    files: dict[str, list[str]] = {}
    for name in shapes:
        part = name.split("layers.")[1].split(".")[0] if "layers." in name else name
        files.setdefault(f"model-{part}.safetensors", []).append(name)
    generator = torch.Generator().manual_seed(0)
    for side in sides:
        side.mkdir()
        config.save_pretrained(side)
    for file, names in files.items():
        before, after = {}, {}
        for name in names:
            base = 0.02 * torch.randn(shapes[name], generator=generator)
            tuned = base
            if only in name and "layers." in name and int(name.split("layers.")[1].split(".")[0]) < changed:
                left, right = (torch.randn(s, 8, generator=generator) for s in shapes[name])
                tuned = base + 0.002 * left @ right.T
            before[name], after[name] = base.bfloat16(), tuned.bfloat16()
        for side, tensors, index in zip(sides, (before, after), indices, strict=True):
            save_file(tensors, side / file, {"format": "pt"})
            index.update(dict.fromkeys(names, file))
    for side, index in zip(sides, indices, strict=True):
        (side / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return sides


def main() -> None:
    """Write the pair, measure it in a child process, and print one line of the table."""
    parser = argparse.ArgumentParser(description="Peak memory and time of the geometry of a synthetic pair.")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--inner", type=int, default=4096)
    parser.add_argument("--blocks", type=int, default=33)
    parser.add_argument("--changed", type=int, default=2)
    parser.add_argument("--vocabulary", type=int, default=1024)
    parser.add_argument("--only", default="_proj", help="part of the names of the weights that differ")
    parser.add_argument("--measures", default="stable_rank,energy_in_top(0.1)")
    parser.add_argument("--hypotheses", default="low_rank,ia3")
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument(
        "--folder", type=Path, help="where to write the pair, which is removed; temporary files if not given"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        folder = Path(place)
        base, tuned = write_pair(
            folder,
            options.width,
            options.inner,
            options.blocks,
            options.changed,
            options.vocabulary,
            options.only,
        )
        size = sum(file.stat().st_size for file in folder.rglob("*.safetensors")) / 1e9
        largest = 4 * options.width * options.inner / 2**30
        choices = (options.measures, options.hypotheses, str(options.draws))
        command = [sys.executable, "-c", CHILD, str(tuned), str(base), str(folder / "out"), *choices]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        own, peak, seconds, reading, layers = map(float, done.stdout.split())
    print(
        f"| {options.width} x {options.inner} | {options.blocks}, {options.changed} | {size:.2f} GB | {largest:.3f} GiB "
        f"| {own:.2f} GiB | {peak:.2f} GiB | {reading / size:.1f} s | {(seconds - reading) / layers:.1f} s |"
    )


if __name__ == "__main__":
    main()
