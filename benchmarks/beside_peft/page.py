"""Write the tables of docs/performance.md from the result files, between two markers of the page."""

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
"""Targets for the speed of a step relative to PEFT's; 0.95 for other methods."""
OVER_LORA = dict.fromkeys(("boft", "goft", "fourierft"), 3.0)
"""Targets for the time of a step relative to LoRA's; 2 for other methods."""

Column = tuple[str, str, str]
"""Title of a column, its key in a row of results, and its format."""
PER_LENGTH: Sequence[Column] = [
    ("ours", "ours_step", "{:.2f}"),
    ("PEFT", "peft_step", "{:.2f}"),
    ("PEFT / ours", "speedup", "{:.2f}"),
    ("ours / LoRA", "over_lora", "{:.2f}"),
    ("saved, MiB", "ours_kept_mib", "{:.1f}"),
    ("saved, PEFT", "peft_kept_mib", "{:.1f}"),
]
PER_METHOD: Sequence[Column] = [
    ("attach, ms", "ours_attach_ms", "{:.0f}"),
    ("attach, PEFT", "peft_attach_ms", "{:.0f}"),
    ("merged", "ours_merged", "{:.2f}"),
    ("merged, PEFT", "peft_merged", "{:.2f}"),
    ("parameters", "ours_parameters", "{:,}"),
    ("parameters, PEFT", "peft_parameters", "{:,}"),
]


def rewrite() -> None:
    """Write the tables of all result files into the page."""
    PAGE.write_text(rendered(PAGE.read_text()))


def rendered(page: str) -> str:
    """Return a page with the tables of all result files.

    Args:
        page: Text of the page, with both markers.
    """
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    parts = [section(json.loads(path.read_text())) for path in sorted(RESULTS.glob("adapters-*.json"))]
    parts += [shapes(json.loads(path.read_text())) for path in sorted(RESULTS.glob("shapes-*.json"))]
    return before + START + "\n" + "\n".join(parts) + "\n" + END + after


def section(results: Mapping[str, Any]) -> str:
    """Return all tables of one result file, with the methods that miss their targets.

    Args:
        results: Content of the result file.
    """
    setting, methods = results["setting"], results["methods"]
    text = [f"## {setting['device']}, {setting['dtype']}", ""]
    text += [", ".join(f"{key} {setting[key]}" for key in setting if key not in ("device", "dtype")) + ".", ""]
    for tokens in lengths(results):
        rows = {name: row["lengths"][tokens] for name, row in methods.items() if tokens in row["lengths"]}
        frozen, lora = (median(row[key] for row in rows.values()) for key in ("frozen_ms", "lora_step"))
        text += [f"### 4 x {tokens} tokens", ""]
        text += [f"A step of the frozen base takes {frozen:.0f} ms, a step of LoRA {lora:.2f} times as long.", ""]
        text += [table(PER_LENGTH, rows), "", missed(rows), ""]
    text += ["### At any length", "", table(PER_METHOD, methods), ""]
    failed = [
        f"- {name}, {side}: {row[f'{side}_failed']}"
        for name, row in methods.items()
        for side in ("ours", "peft")
        if f"{side}_failed" in row
    ]
    return "\n".join([*text, *failed, ""] if failed else text)


def shapes(results: Mapping[str, Any]) -> str:
    """Return the tables of other models and sizes: for each, the speed relative to PEFT's and the time relative to LoRA's.

    Args:
        results: Content of the result file.
    """
    setting, methods = results["setting"], results["methods"]
    text = [f"## Other models and sizes: {setting['device']}, {setting['dtype']}", ""]
    sizes = list(dict.fromkeys(key.rsplit(", ", 1)[1] for key in methods))
    for model in dict.fromkeys(key.rsplit(", ", 2)[1] for key in methods):
        for tokens in lengths(results):
            rows: dict[str, dict[str, float]] = {}
            for key, row in methods.items():
                name, of, size = key.rsplit(", ", 2)
                if of == model and tokens in row["lengths"]:
                    found = row["lengths"][tokens]
                    rows.setdefault(name, {}).update(
                        {
                            f"{size} {measure}": found[measure]
                            for measure in ("speedup", "over_lora")
                            if measure in found
                        }
                    )
            columns = [
                (f"{title}, {size}", f"{size} {measure}", "{:.2f}")
                for title, measure in (("PEFT / ours", "speedup"), ("ours / LoRA", "over_lora"))
                for size in sizes
            ]
            slower = [
                f"{name}, {size} {row[f'{size} speedup']:.2f}"
                for name, row in rows.items()
                for size in sizes
                if row.get(f"{size} speedup", 1) < 0.95
            ]
            text += [f"### Width {model}, 4 x {tokens} tokens", "", table(columns, rows), ""]
            text += [f"Slower than PEFT by more than 5 %: {'; '.join(slower) or 'none'}.", ""]
    return "\n".join(text)


def lengths(results: Mapping[str, Any]) -> list[str]:
    """Return the lengths that any method was measured at, in ascending order.

    Args:
        results: Content of a result file.
    """
    return sorted({tokens for row in results["methods"].values() for tokens in row["lengths"]}, key=int)


def table(columns: Sequence[Column], rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a Markdown table with one line per method.

    Args:
        columns: Columns to show.
        rows: Results by method.
    """
    head = [f"| method | {' | '.join(title for title, _, _ in columns)} |", "|---|" + "---:|" * len(columns)]
    return "\n".join([*head, *(line(name, columns, row) for name, row in rows.items())])


def line(name: str, columns: Sequence[Column], row: Mapping[str, Any]) -> str:
    """Return one line of a Markdown table; a missing result leaves its cell empty.

    Args:
        name: First cell.
        columns: Columns to show.
        row: Results by key.
    """
    cells = [form.format(row[key]) if key in row else "" for _, key, form in columns]
    return f"| {name} | {' | '.join(cells)} |"


def missed(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return sentences that name the methods that miss their targets.

    Args:
        rows: Results by method.
    """

    def failing(
        key: str, fails: Callable[[float, float], bool], targets: Mapping[str, float], default: float
    ) -> list[str]:
        return [
            f"{name} {row[key]:.2f} (target {targets.get(name, default)})"
            for name, row in rows.items()
            if key in row and fails(row[key], targets.get(name, default))
        ]

    peft = failing("speedup", operator.lt, SPEEDUPS, 0.95)
    lora = failing("over_lora", operator.gt, OVER_LORA, 2.0)
    return (
        f"Targets missed for *PEFT / ours*: {', '.join(peft) or 'none'}. "
        f"Targets missed for *ours / LoRA*: {', '.join(lora) or 'none'}."
    )
