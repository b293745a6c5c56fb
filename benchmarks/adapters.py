"""One training step of every method beside PEFT's, interleaved in one run; what is measured is said in docs/performance.md.

    python -m benchmarks.adapters --methods lora hra --tokens 64 512

What was measured under the same setting is not measured again, so a run that was stopped goes on where it was; after a
change of a method, `--fresh` measures anew. The results are written after every method, and the page with them.
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

from benchmarks.beside_peft.contests import contestants, method_of
from benchmarks.beside_peft.measure import Bench
from benchmarks.beside_peft.page import ONCE, RESULTS, STEPS, line, rewrite


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.adapters", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="only these (default: all)")
    parser.add_argument("--tokens", nargs="+", type=int, default=[64, 512], help="lengths of the 4 sequences")
    parser.add_argument("--seconds-per-method", type=float, default=6.0, help="for the rounds at each length")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--fresh", action="store_true", help="measure anew what is there already")
    parser.add_argument("--page", action="store_true", help="only write the page's tables anew from the result files")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/adapters-DEVICE-DTYPE.json")
    chosen = parser.parse_args(arguments)
    if unknown := sorted(set(chosen.methods or ()) - set(contestants())):
        parser.error(f"unknown method: {', '.join(unknown)}; known: {', '.join(contestants())}")
    chosen.out = chosen.out or RESULTS / f"adapters-{torch.device(chosen.device).type}-{chosen.dtype}.json"
    chosen.setting = setting(chosen)
    if chosen.page:
        return chosen
    there = stored(chosen.out)
    if there and there["setting"] != chosen.setting and not chosen.fresh:
        parser.error(f"{chosen.out} holds another setting, {there['setting']}: give --fresh to replace it, or --out")
    return chosen


def setting(chosen: argparse.Namespace) -> dict[str, str]:
    """All that rows must share to stand in one table."""
    device = torch.device(chosen.device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {chosen.threads} thread(s)"
    return {
        "device": where,
        "dtype": chosen.dtype,
        "machine": platform.machine(),
        "torch": torch.__version__,
        "peft": peft.__version__,
    }


def stored(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text()) if path.exists() else None


def missing(row: dict[str, Any] | None, name: str, tokens: Sequence[int]) -> list[int]:
    """The lengths at which a method in its present sizes is still to be measured."""
    if row is None or row["settings"] != str(method_of(name)):
        return list(tokens)
    return [t for t in tokens if str(t) not in row["lengths"]]


def joined(old: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    """A method's new row, with the lengths of the old one that were not measured again."""
    kept = old["lengths"] if old and old["settings"] == new["settings"] else {}
    return new | {"lengths": dict(sorted((kept | new["lengths"]).items(), key=lambda item: int(item[0])))}


def write(path: Path, results: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    results["methods"] = {name: results["methods"][name] for name in contestants() if name in results["methods"]}
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
    print("; ".join(title for title, _, _ in (*STEPS, *ONCE)))
    for name in chosen.methods or contestants():
        old = results["methods"].get(name)
        lengths = chosen.tokens if chosen.fresh else missing(old, name, chosen.tokens)
        if not lengths:
            print(f"{name}: there already", flush=True)
            continue
        new = bench.measure(name, lengths, chosen.seconds_per_method)
        results["methods"][name] = joined(old, new)
        for tokens, row in new["lengths"].items():
            print(line(f"{name}, 4 x {tokens}", (*STEPS, *ONCE), new | row), flush=True)
        for side in ("ours", "peft"):
            if f"{side}_failed" in new:
                print(f"{name}, {side}: {new[f'{side}_failed']}", flush=True)
        write(chosen.out, results)
    print(f"written: {chosen.out}")


if __name__ == "__main__":
    main()
