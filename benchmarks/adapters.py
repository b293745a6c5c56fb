"""Compare one training step of every method with PEFT's; docs/performance.md explains the measurements.

    python -m benchmarks.adapters --methods lora hra --tokens 64 512
    python -m benchmarks.adapters --models 256 576 --sizes small usual large

Results and page are written after every method. A run skips what was already measured with the same setting, so it
continues where an earlier run stopped. Use `--fresh` to measure again after a change of a method.
"""

from __future__ import annotations

import argparse
import json
import platform
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch

from benchmarks.beside_peft.comparisons import MODELS, SIZES, method_of, names, sizes_of
from benchmarks.beside_peft.measure import Bench
from benchmarks.beside_peft.page import PER_LENGTH, PER_METHOD, RESULTS, line, rewrite


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.adapters", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="methods to measure (default: all)")
    parser.add_argument("--tokens", nargs="+", type=int, default=[64, 512], help="tokens in each of the 4 sequences")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=["1024"], help="widths of the models")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["usual"], help="sizes of the methods")
    parser.add_argument("--seconds-per-method", type=float, default=6.0, help="seconds for the rounds at each length")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--fresh", action="store_true", help="measure again what was already measured")
    parser.add_argument("--page", action="store_true", help="only write the page's tables from the result files")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/adapters-DEVICE-DTYPE.json")
    chosen = parser.parse_args(arguments)
    if unknown := sorted(set(chosen.methods or ()) - set(names())):
        parser.error(f"unknown method: {', '.join(unknown)}; known: {', '.join(names())}")
    kind = "adapters" if (chosen.models, chosen.sizes) == (["1024"], ["usual"]) else "shapes"
    chosen.out = chosen.out or RESULTS / f"{kind}-{torch.device(chosen.device).type}-{chosen.dtype}.json"
    chosen.setting = setting(chosen)
    if chosen.page:
        return chosen
    earlier = stored(chosen.out)
    if earlier and earlier["setting"] != chosen.setting and not chosen.fresh:
        parser.error(
            f"{chosen.out} holds results of another setting, {earlier['setting']}: give --fresh to replace them, or "
            "another --out"
        )
    return chosen


def setting(chosen: argparse.Namespace) -> dict[str, str]:
    """Return the properties that all rows of one table share.

    Args:
        chosen: The parsed command line.
    """
    device = torch.device(chosen.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {chosen.threads} thread(s)"
    return {
        "device": name,
        "dtype": chosen.dtype,
        "machine": platform.machine(),
        "torch": torch.__version__,
        "peft": peft.__version__,
    }


def stored(path: Path) -> dict[str, Any] | None:
    """Return the results in a file, or None if there is no file.

    Args:
        path: A result file.
    """
    return json.loads(path.read_text()) if path.exists() else None


@dataclass(frozen=True)
class Case:
    """One method in one size on one model."""

    name: str
    """Name of the comparison."""
    model: str
    """Name of the model."""
    size: str
    """Size of the method."""

    @property
    def key(self) -> str:
        """Name of its results."""
        usual = (self.model, self.size) == ("1024", "usual")
        return self.name if usual else f"{self.name}, {self.model}, {self.size}"

    @property
    def settings(self) -> str:
        """The method with its settings."""
        return str(method_of(self.name, MODELS[self.model], self.size))


def cases(
    models: Sequence[str] = tuple(MODELS), sizes: Sequence[str] = SIZES, methods: Sequence[str] = ()
) -> dict[str, Case]:
    """Return what can be measured by key: each method, in those of the sizes in which it differs.

    Args:
        models: Names of models.
        sizes: Sizes of methods.
        methods: Names of comparisons; all if empty.
    """
    found = [Case(n, m, s) for m in models for n in methods or names() for s in sizes if s in sizes_of(n)]
    return {case.key: case for case in found}


def missing(row: dict[str, Any] | None, case: Case, tokens: Sequence[int]) -> list[int]:
    """Return the lengths that are not yet measured for a method with its present settings.

    Args:
        row: Earlier results of the method, or None.
        case: The method.
        tokens: Lengths to measure.
    """
    if row is None or row["settings"] != case.settings:
        return list(tokens)
    return [t for t in tokens if str(t) not in row["lengths"]]


def joined(old: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    """Return a method's new results, with the old results of lengths that were not measured again.

    Args:
        old: Earlier results of the method, or None.
        new: New results of the method.
    """
    kept = old["lengths"] if old and old["settings"] == new["settings"] else {}
    return new | {"lengths": dict(sorted((kept | new["lengths"]).items(), key=lambda item: int(item[0])))}


def write(path: Path, results: dict[str, Any]) -> None:
    """Write a result file, and the page if the file is in its folder.

    Args:
        path: The result file.
        results: The setting, and the results of each method.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    results["methods"] = {key: results["methods"][key] for key in cases() if key in results["methods"]}
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(results, indent=1) + "\n")
    partial.replace(path)
    if path.parent.resolve() == RESULTS:
        rewrite()


def main(arguments: Sequence[str] | None = None) -> None:
    chosen = parse(arguments)
    if chosen.page:
        rewrite()
        return
    torch.set_num_threads(chosen.threads)
    warnings.filterwarnings("ignore")
    results = stored(chosen.out)
    if results is None or results["setting"] != chosen.setting:
        results = {"setting": chosen.setting, "methods": {}}
    print("; ".join(title for title, _, _ in (*PER_LENGTH, *PER_METHOD)))
    bench: Bench | None = None
    for key, case in cases(chosen.models, chosen.sizes, chosen.methods or ()).items():
        old = results["methods"].get(key)
        lengths = chosen.tokens if chosen.fresh else missing(old, case, chosen.tokens)
        if not lengths:
            print(f"{key}: already measured", flush=True)
            continue
        shape = MODELS[case.model]
        if bench is None or bench.shape != shape:
            bench = Bench(torch.device(chosen.device), getattr(torch, chosen.dtype), shape)
        new = bench.measure(case.name, lengths, chosen.seconds_per_method, case.size)
        results["methods"][key] = joined(old, new)
        for tokens, row in new["lengths"].items():
            print(line(f"{key}, 4 x {tokens}", (*PER_LENGTH, *PER_METHOD), new | row), flush=True)
        for side in ("ours", "peft"):
            if f"{side}_failed" in new:
                print(f"{key}, {side}: {new[f'{side}_failed']}", flush=True)
        write(chosen.out, results)
    print(f"written: {chosen.out}")


if __name__ == "__main__":
    main()
