"""Compare one training step of every method with PEFT's; docs/performance.md explains the measurements.

    python -m benchmarks.adapters --methods lora hra --tokens 64 512

Results and page are written after every method. A run skips what was already measured with the same setting, so it
continues where an earlier run stopped. Use `--fresh` to measure again after a change of a method.
"""

from __future__ import annotations

import argparse
import json
import platform
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import peft
import torch

from benchmarks.beside_peft.comparisons import method_of, names
from benchmarks.beside_peft.measure import Bench
from benchmarks.beside_peft.page import PER_LENGTH, PER_METHOD, RESULTS, line, rewrite


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.adapters", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="methods to measure (default: all)")
    parser.add_argument("--tokens", nargs="+", type=int, default=[64, 512], help="tokens in each of the 4 sequences")
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
    chosen.out = chosen.out or RESULTS / f"adapters-{torch.device(chosen.device).type}-{chosen.dtype}.json"
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


def missing(row: dict[str, Any] | None, name: str, tokens: Sequence[int]) -> list[int]:
    """Return the lengths that are not yet measured for a method with its present settings.

    Args:
        row: Earlier results of the method, or None.
        name: Name of the comparison.
        tokens: Lengths to measure.
    """
    if row is None or row["settings"] != str(method_of(name)):
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
    results["methods"] = {name: results["methods"][name] for name in names() if name in results["methods"]}
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
    bench = Bench(torch.device(chosen.device), getattr(torch, chosen.dtype))
    print("; ".join(title for title, _, _ in (*PER_LENGTH, *PER_METHOD)))
    for name in chosen.methods or names():
        old = results["methods"].get(name)
        lengths = chosen.tokens if chosen.fresh else missing(old, name, chosen.tokens)
        if not lengths:
            print(f"{name}: already measured", flush=True)
            continue
        new = bench.measure(name, lengths, chosen.seconds_per_method)
        results["methods"][name] = joined(old, new)
        for tokens, row in new["lengths"].items():
            print(line(f"{name}, 4 x {tokens}", (*PER_LENGTH, *PER_METHOD), new | row), flush=True)
        for side in ("ours", "peft"):
            if f"{side}_failed" in new:
                print(f"{name}, {side}: {new[f'{side}_failed']}", flush=True)
        write(chosen.out, results)
    print(f"written: {chosen.out}")


if __name__ == "__main__":
    main()
