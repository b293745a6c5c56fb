"""Tables of the page *Which adapter?*: a scoreboard for each published study, and the literature beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from adapterlab.evidence.cells import cells_of
from adapterlab.evidence.store import OWN, Store
from adapterlab.report.verdict_json import finite
from adapterlab.verdict.claims import read_test
from adapterlab.verdict.forms import Better
from adapterlab.verdict.other_evidence import other_evidence
from tools.pages.published import ROOT, Board, PublishedStudy, Row, boards_of, has, interval, is_told_apart

TIMES = ROOT / "benchmarks" / "results" / "adapters-cpu-float32.json"
"""Times of a step beside LoRA's, measured in turns."""
SPACE = "\N{NO-BREAK SPACE}"
LITERATURE = ("in_domain", "forgetting")
"""Metrics that are compared with the literature."""


@cache
def step_times() -> Mapping[str, Mapping[str, float]]:
    """Return the time of a training step of each method relative to LoRA's, by the number of tokens in a sequence."""
    methods = json.loads(TIMES.read_text("utf-8"))["methods"]
    return {
        name: {tokens: row["over_lora"] for tokens, row in found["lengths"].items() if "over_lora" in row}
        for name, found in methods.items()
    }


def method_of(row: Row) -> str:
    """Return the method of a contestant.

    Args:
        row: The contestant.

    >>> method_of({"adapter": "vera(rank=245)"})
    'vera'
    """
    return str(row["adapter"]).partition("(")[0]


def scoreboards(studies: list[PublishedStudy]) -> str:
    """Return a heading and a table for each scoreboard.

    Args:
        studies: The published studies.
    """
    return "\n\n".join(_scoreboard(board) for board in boards_of(studies))


def _scoreboard(board: Board) -> str:
    matched = any(row["less_forgetting_at_equal_learning"] for row in board.rows)
    heads = ["adapter", "parameters", "time of a step", "learns more than " + board.reference, "forgets"]
    heads += [f"forgets less than {board.reference} at equal learning"] if matched else []
    heads += ["best rates", "runs"]
    lines = [f"| {' | '.join(heads)} |", "|---|" + "--:|" * (len(heads) - 2) + "---|"]
    lines += [f"| {' | '.join(_cells(board, row, matched))} |" for row in board.rows]
    study = board.study
    text = [
        f"### {board.heading}",
        f"{board.conditions} The study's own answer: {board.data['answer']} Losses are in {board.data['unit']}; a "
        f"difference of {study.smallest:g} or more matters. [The report]({study.report}).",
        "\n".join(lines),
    ]
    if not matched:
        text.append("This study did not measure forgetting at equal learning.")
    return "\n\n".join(text)


def _cells(board: Board, row: Row, matched: bool) -> list[str]:
    reference = board.row(board.reference)
    times = step_times().get(method_of(row), {})
    name = f"**{row['name']}**" if row["name"] == board.reference else str(row["name"])
    versus = _two_lines(interval(row["versus_reference"]))
    kept = row["less_forgetting_at_equal_learning"]
    cells = [
        name + ("" if row["ranked"] else " (not ranked)"),
        f"{row['parameters']:,}<br>{row['parameters'] / reference['parameters']:.2g} x",
        f"{SPACE}/{SPACE}".join(f"{times[tokens]:.2f}" for tokens in sorted(times, key=int)) or "-",
        f"**{versus}**" if is_told_apart(row["versus_reference"], row["p_holm"]) else versus,
        _two_lines(interval(row["forgetting"])),
    ]
    if matched:
        found = _two_lines(interval(kept))
        cells.append(f"**{found}**" if kept and is_told_apart(kept, kept["p_holm"]) else found)
    rates = "<br>".join(f"{rate:g}" for rate in row["rates"].values())
    return [*cells, rates, _links(board, str(row["name"]))]


def _two_lines(estimate: str) -> str:
    """Return an estimate above its interval, neither of which is broken."""
    return estimate.replace(" (", "<br>(").replace(" ", SPACE)


def _links(board: Board, name: str) -> str:
    """Return links to the reported runs, one for each seed, by task."""
    runs = board.study.runs(board, name)
    lines = []
    for task in board.data["tasks"]:
        of = runs[runs["task"] == task]
        seeds = " ".join(
            f"[{seed}]({board.study.report}#t-{trial})" for seed, trial in zip(of["seed"], of["trial"], strict=True)
        )
        lines.append(f"{task} {seeds}".replace(" ", SPACE))
    return "<br>".join(lines)


def literature(studies: list[PublishedStudy]) -> str:
    """Return a table of published differences from LoRA beside those of the studies.

    Args:
        studies: The published studies.
    """
    cells = cells_of(score for score in Store().scores if not score.source.startswith(OWN))
    lines = [
        "| | published by others | comparisons, sources | " + " | ".join(_short(study) for study in studies) + " | |",
        "|---|--:|---|" + "--:|" * len(studies) + "---|",
    ]
    for metric in LITERATURE:
        for method in sorted({method for cell in cells if cell.metric == metric for method in cell.runs} - {"lora"}):
            ours = [_own(study, method, metric) for study in studies]
            found = other_evidence(_test(method, metric), cells) if any(ours) else None
            if found is None or found.meta is None:
                continue
            meta, sources = found.meta, found.sources
            known = {"mean": meta.mean, "low": finite(meta.interval[0]), "high": finite(meta.interval[1])}
            words = {"in_domain": "learns more", "forgetting": "forgets less"}[metric]
            shown = " | ".join(_units(each) for each in ours)
            lines.append(
                f"| {method} {words} | {_units(known)} | {meta.studies}: {', '.join(sources)} | {shown} "
                f"| {_differ(known, [each for each in ours if each])} |"
            )
    return "\n".join(lines)


def _test(method: str, metric: str) -> Better:
    test = read_test(method, {"better": method, "than": "lora", "in": metric, "on": "prose"})
    assert isinstance(test, Better)
    return test


def _short(study: PublishedStudy) -> str:
    return f"[{study.settings['name']}]({study.report})"


def _own(study: PublishedStudy, method: str, metric: str) -> Mapping[str, float | None] | None:
    """Return a study's difference from LoRA in units of the smallest one that matters, higher is better."""
    found: Mapping[str, float | None] | None = None
    board = study.boards[0]
    if metric == "in_domain":
        rows = [row for row in board.rows if row["name"] == method]
        found = rows[0]["versus_reference"] if rows and board.reference == "lora" else None
    else:
        found = forgets_less(study).get(method)
    if found is None:
        return None
    return {key: None if (at := found[key]) is None else at / study.smallest for key in ("mean", "low", "high")}


def forgets_less(study: PublishedStudy) -> dict[str, Mapping[str, Any]]:
    """Return how much less than LoRA contestants forgot as they were trained, by the paired differences of the map's claims.

    Args:
        study: A published study.

    Returns:
        By contestant, `mean`, `low`, `high`, and the `tasks` of the claim's test.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for claim in study.verdict.get("claims", []):
        test, effect = claim["test"], claim.get("effect")
        if not has(effect) or test.get("in") != "forgetting" or test.get("at") or "better" not in test:
            continue
        tasks = {"tasks": sorted({pair["task"] for pair in claim["pairs"]})}
        if test["than"] == "lora":
            found[test["better"]] = effect | tasks
        elif test["better"] == "lora":
            turned = {"mean": effect["mean"], "low": effect["high"], "high": effect["low"]}
            found[test["than"]] = {key: None if at is None else -at for key, at in turned.items()} | tasks
    return found


def _units(effect: Mapping[str, float | None] | None) -> str:
    if effect is None or effect["mean"] is None:
        return "-"
    if effect["low"] is None or effect["high"] is None:
        return f"{effect['mean']:.1f} (no interval)"
    return f"{effect['mean']:.1f} ({effect['low']:.1f} to {effect['high']:.1f})"


def _differ(known: Mapping[str, float | None], ours: list[Mapping[str, float | None]]) -> str:
    def sign(effect: Mapping[str, float | None]) -> int:
        low, high = effect["low"], effect["high"]
        return 0 if low is None or high is None else (low > 0) - (high < 0)

    signs = {sign(each) for each in ours} - {0}
    if sign(known) and -sign(known) in signs:
        return "**they contradict each other**"
    return "one is told apart, the other not" if bool(sign(known)) != bool(signs) else ""
