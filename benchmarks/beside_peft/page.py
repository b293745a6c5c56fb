"""The tables of docs/performance.md: what the result files say, between markers, so that the page cannot drift."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"
START, END = "<!-- tables: written by benchmarks/adapters.py -->\n", "<!-- end of tables -->\n"

SPEEDUPS = {"hra": 8.0, "boft": 5.0} | dict.fromkeys(("loha", "lokr", "randlora", "fourierft", "dora", "c3a"), 1.3)
"""How many times faster than PEFT's a step is to be; at least 0.95 elsewhere."""
OVER_LORA = dict.fromkeys(("boft", "goft", "fourierft"), 3.0)
"""How many of LoRA's steps one may take; 2 elsewhere."""

Column = tuple[str, str, str]
"""Its title, its key in a row, its format."""
STEPS: Sequence[Column] = [
    ("ours", "ours_step", "{:.2f}"),
    ("PEFT", "peft_step", "{:.2f}"),
    ("PEFT / ours", "speedup", "{:.2f}"),
    ("ours / LoRA", "over_lora", "{:.2f}"),
    ("kept, MiB", "ours_kept_mib", "{:.1f}"),
    ("kept, PEFT", "peft_kept_mib", "{:.1f}"),
]
ONCE: Sequence[Column] = [
    ("attach, ms", "ours_attach_ms", "{:.0f}"),
    ("attach, PEFT", "peft_attach_ms", "{:.0f}"),
    ("merged", "ours_merged", "{:.2f}"),
    ("merged, PEFT", "peft_merged", "{:.2f}"),
    ("parameters", "ours_parameters", "{:,}"),
    ("parameters, PEFT", "peft_parameters", "{:,}"),
]


def rewrite() -> None:
    """Put the tables of all result files into the page."""
    PAGE.write_text(rendered(PAGE.read_text()))


def rendered(page: str) -> str:
    """The page with the tables that the result files give."""
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    parts = [section(json.loads(path.read_text())) for path in sorted(RESULTS.glob("adapters-*.json"))]
    return before + START + "\n" + "\n".join(parts) + "\n" + END + after


def section(results: Mapping[str, Any]) -> str:
    """All tables of one result file, and which targets it misses."""
    setting, methods = results["setting"], results["methods"]
    text = [f"## {setting['device']}, {setting['dtype']}", ""]
    text += [", ".join(f"{key} {setting[key]}" for key in setting if key not in ("device", "dtype")) + ".", ""]
    for tokens in lengths(results):
        rows = {name: row["lengths"][tokens] for name, row in methods.items() if tokens in row["lengths"]}
        frozen, lora = (median(row[key] for row in rows.values()) for key in ("frozen_ms", "lora_step"))
        text += [f"### 4 x {tokens} tokens", ""]
        text += [f"The frozen base's step takes {frozen:.0f} ms, LoRA's {lora:.2f} times that.", ""]
        text += [table(STEPS, rows), "", missed(rows), ""]
    text += ["### At any length", "", table(ONCE, methods), ""]
    failed = [
        f"- {name}, {side}: {row[f'{side}_failed']}"
        for name, row in methods.items()
        for side in ("ours", "peft")
        if f"{side}_failed" in row
    ]
    return "\n".join([*text, *failed, ""] if failed else text)


def lengths(results: Mapping[str, Any]) -> list[str]:
    """The lengths that any method was measured at, rising."""
    return sorted({tokens for row in results["methods"].values() for tokens in row["lengths"]}, key=int)


def table(columns: Sequence[Column], rows: Mapping[str, Mapping[str, Any]]) -> str:
    head = [f"| method | {' | '.join(title for title, _, _ in columns)} |", "|---|" + "---:|" * len(columns)]
    return "\n".join([*head, *(line(name, columns, row) for name, row in rows.items())])


def line(name: str, columns: Sequence[Column], row: Mapping[str, Any]) -> str:
    cells = [form.format(row[key]) if key in row else "" for _, key, form in columns]
    return f"| {name} | {' | '.join(cells)} |"


def missed(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """In a sentence, which methods are slower beside PEFT's or LoRA than they are meant to be."""

    def short(key: str, fails: Callable[[float, float], bool], targets: Mapping[str, float], usual: float) -> list[str]:
        return [
            f"{name} {row[key]:.2f} (target {targets.get(name, usual)})"
            for name, row in rows.items()
            if key in row and fails(row[key], targets.get(name, usual))
        ]

    slow = short("speedup", operator.lt, SPEEDUPS, 0.95)
    heavy = short("over_lora", operator.gt, OVER_LORA, 2.0)
    return f"Short of the target beside PEFT: {', '.join(slow) or 'none'}. Beside LoRA: {', '.join(heavy) or 'none'}."
