"""Tables of the page *Which rate, which rank?*, from the published studies and from published tables."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy import stats

from adapterlab.evidence.cells import Cell, cells_of
from adapterlab.evidence.store import Store
from adapterlab.verdict.wanted import Wanted
from tools.pages.published import PublishedStudy, boards_of, number
from tools.pages.search_curves import tolerances

SWEEP, METHODS = "tinker-lora-sweep", "lr-matters"
"""Sources: ranks and rates of LoRA on many models, and rates of five methods on three models."""
SMALLEST = 0.005
"""Smallest difference that matters, in nats per token, as in the table."""
FEWEST = 3
"""Models or settings that a mean needs at least."""


def rates(studies: list[PublishedStudy]) -> str:
    """Return a table of the best rates for each scoreboard.

    Args:
        studies: The published studies.
    """
    parts = []
    for board in boards_of(studies):
        tasks = board.data["tasks"]
        reference = board.row(board.reference)["rates"]
        lines = [
            f"| adapter | {' | '.join(tasks)} | times {board.reference}'s | left at 1.8 times off |",
            "|---|" + "--:|" * (len(tasks) + 2),
        ]
        for row in board.rows:
            best = row["rates"]
            shown = [f"{best[task]:g}{_flag(row, task)}" if task in best else "-" for task in tasks]
            ratios = [f"{best[task] / reference[task]:.2g}" for task in tasks if task in best and task in reference]
            kept = [f"{100 * found.kept:.0f} %" for found in tolerances(board, row["name"])]
            lines.append(f"| {row['name']} | {' | '.join(shown)} | {_span(ratios)} | {', '.join(kept) or '-'} |")
        parts.append("\n".join([f"### {board.heading}", "", f"{board.conditions}", "", *lines]))
    return "\n\n".join(parts)


def rates_answer(studies: list[PublishedStudy]) -> str:
    """Return what the tables say of the rate and of the rank, in two sentences each.

    Args:
        studies: The published studies.
    """
    widest = max(
        (max(found) / min(found), board, task)
        for board in boards_of(studies)
        for task in board.data["tasks"]
        if len(found := [row["rates"][task] for row in board.rows if task in row["rates"]]) > 1
    )
    factor, board, task = widest
    lora = [
        rate for at in boards_of(studies) for row in at.rows if row["name"] == "lora" for rate in row["rates"].values()
    ]
    cells = _of(cells_of(Store().scores), SWEEP)
    published = [rate for cell in cells for name in _by_rank(cell).values() if (rate := _best_rate(cell, name))]
    behind, moved = _by_each_rank(cells)
    known = {rank: _limits(values) for rank, values in behind.items() if len(values) >= FEWEST}
    enough = min(
        (r for r in known if all(known[other][2] < SMALLEST for other in known if other >= r)), default=max(known)
    )
    highest = max(rank for rank, values in moved.items() if len(values) >= FEWEST)
    small = _span([f"{at:g}" for at in lora])
    rate = (
        f"**Rate.** On one task ({task}, {board.study.model}) the best rates of two methods differ by a factor of "
        f"{factor:.0f}, so a rate that is right for LoRA says little about another method: search, or [predict "
        f"it](#without-a-search). LoRA's own best rate is {np.median(published):g} at the median of {len(published)} "
        f"published sweeps of models above a billion parameters, and {small} for the small models and short runs of the "
        "published studies."
    )
    rank = (
        f"**Rank.** From rank {enough} on, LoRA is behind the highest rank by less than {SMALLEST:g} nats per token: rank "
        f"{enough} by {_mean(behind[enough])}, over {len(behind[enough])} models. At rank {highest} the best rate is "
        f"{_factor(moved[highest])} times that of the lowest rank ([table](#rank))."
    )
    return f"{rate}\n\n{rank}"


def _flag(row: Mapping[str, Mapping[str, object]], task: str) -> str:
    return " (at the edge of the search)" if row["search_flags"].get(task) else ""


def _span(values: Sequence[str]) -> str:
    ordered = sorted(set(values), key=float)
    if not ordered:
        return "-"
    return ordered[0] if len(ordered) == 1 else f"{ordered[0]} to {ordered[-1]}"


def rates_of_lora(studies: list[PublishedStudy]) -> str:
    """Return a table of LoRA's best rate by model, of the studies and of published sweeps.

    Args:
        studies: The published studies.
    """
    lines = ["| model | source | LoRA's best rate | from |", "|---|---|--:|---|"]
    for board in boards_of(studies):
        found = [row for row in board.rows if row["name"] == "lora"]
        if found:
            best = list(found[0]["rates"].values())
            source = f"[study {board.study.settings['name']}]({board.study.report})"
            lines.append(
                f"| {board.study.model} | {source} | {_span([f'{at:g}' for at in best])} | {len(best)} tasks |"
            )
    cells = cells_of(Store().scores)
    for model in dict.fromkeys(cell.model for cell in cells if cell.source == METHODS):
        best = [rate for cell in _of(cells, METHODS) if cell.model == model and (rate := _best_rate(cell, "lora"))]
        lines.append(f"| {model} | {METHODS} | {_span([f'{at:g}' for at in best])} | {len(best)} settings |")
    best = [rate for cell in _of(cells, SWEEP) for name in _by_rank(cell).values() if (rate := _best_rate(cell, name))]
    if best:
        low, middle, high = np.quantile(best, [0.05, 0.5, 0.95])
        models = len(_of(cells, SWEEP))
        lines.append(
            f"| {models} models of 1 B to 1000 B | {SWEEP} | {middle:g} ({low:g} to {high:g} in nine of ten) | "
            f"{len(best)} sweeps over half decades |"
        )
    return "\n".join(lines)


def rates_of_others(studies: list[PublishedStudy]) -> str:
    """Return a table of the best rates of other methods as multiples of LoRA's, of published sweeps.

    Args:
        studies: The published studies; unused, since the table is of others' results.
    """
    cells = _of(cells_of(Store().scores), METHODS)
    lines = ["| method | best rate, times LoRA's | settings | at LoRA's best rate it loses |", "|---|--:|--:|--:|"]
    for method in sorted({name for cell in cells for name in cell.runs} - {"lora"}):
        both = [cell for cell in cells if {"lora", method} <= set(cell.runs)]
        by_model: dict[str, list[float]] = defaultdict(list)
        lost: dict[str, list[float]] = defaultdict(list)
        for cell in both:
            own, other = _best_rate(cell, method), _best_rate(cell, "lora")
            if own and other:
                by_model[cell.model].append(math.log(own / other))
                curve = cell.curve(method)
                if other in curve:
                    lost[cell.model].append(curve[own] - curve[other])
        if len(by_model) >= FEWEST:
            settings = sum(map(len, by_model.values()))
            means = [float(np.mean(at)) for at in by_model.values()]
            losses = [float(np.mean(at)) for at in lost.values()]
            lines.append(
                f"| {method} | {_factor(means)} | {settings} on {len(by_model)} models | {_points(losses)} points |"
            )
    return "\n".join(lines)


def ranks(studies: list[PublishedStudy]) -> str:
    """Return a table of what each rank of LoRA loses to the best one, and of how the best rate moves with it.

    Args:
        studies: The published studies; unused, since the table is of others' results.
    """
    behind, moved = _by_each_rank(_of(cells_of(Store().scores), SWEEP))
    lines = [
        "| rank | models | behind the model's highest rank, nats per token | best rate, times that of the lowest rank |",
        "|--:|--:|--:|--:|",
    ]
    for rank in sorted(behind):
        if len(behind[rank]) >= FEWEST:
            factor = _factor(moved[rank]) if len(moved[rank]) >= FEWEST else "-"
            lines.append(f"| {rank} | {len(behind[rank])} | {_mean(behind[rank])} | {factor} |")
    return "\n".join(lines)


def _by_each_rank(cells: Sequence[Cell]) -> tuple[dict[int, list[float]], dict[int, list[float]]]:
    """Return by rank, over models, what it is behind the highest rank, and the logarithm of how its best rate has moved."""
    behind: dict[int, list[float]] = defaultdict(list)
    moved: dict[int, list[float]] = defaultdict(list)
    for cell in cells:
        names = _by_rank(cell)
        if len(names) < FEWEST:
            continue
        best = {rank: cell.best(name).value * cell.smallest for rank, name in names.items()}
        lowest = _best_rate(cell, names[min(names)])
        for rank, name in names.items():
            if rank != max(best):
                behind[rank].append(best[max(best)] - best[rank])
            rate = _best_rate(cell, name)
            if rate and lowest and rank != min(names):
                moved[rank].append(math.log(rate / lowest))
    return behind, moved


def _of(cells: Iterable[Cell], source: str) -> list[Cell]:
    return [cell for cell in cells if cell.source == source and cell.metric == "in_domain"]


def _by_rank(cell: Cell) -> dict[int, str]:
    """Return the names of LoRA's runs by rank."""
    ranks = {name: dict(Wanted.parse(name).settings).get("rank") for name in cell.runs}
    return {int(str(rank)): name for name, rank in ranks.items() if rank is not None}


def _best_rate(cell: Cell, method: str) -> float | None:
    curve = cell.curve(method)
    return max(curve, key=curve.__getitem__) if len(curve) >= FEWEST else None


def _limits(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean with its t interval of 95 %."""
    mean = float(np.mean(values))
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    return mean, mean - half, mean + half


def _mean(values: Sequence[float]) -> str:
    mean, low, high = _limits(values)
    return f"{number(mean)} ({number(low)} to {number(high)})"


def _points(values: Sequence[float]) -> str:
    mean, low, high = _limits(values)
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"


def _factor(logarithms: Sequence[float]) -> str:
    mean, low, high = (math.exp(at) for at in _limits(logarithms))
    return f"{mean:.2g} ({low:.2g} to {high:.2g})"
