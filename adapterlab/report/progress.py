"""Estimate and status of a study on a terminal of 80 columns.

>>> duration(5400)
'1.5 h'
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from adapterlab.lab.analysis.power import ENOUGH, Power
from adapterlab.lab.run.design import stopping_rule
from adapterlab.lab.run.estimate import Entry, Estimate
from adapterlab.lab.run.lr_search import describe
from adapterlab.lab.run.status import StudyStatus, TrialLabel
from adapterlab.lab.study.spec import Study
from adapterlab.lab.study.sweep import Cell
from adapterlab.lab.trial.spec import FROZEN
from adapterlab.report.counts import thousands
from adapterlab.report.plain import add_plain_row, plain

SHOWN = 4
"""Trials listed of each kind."""


def show_estimate(estimate: Estimate, power: Power, console: Console) -> None:
    """Print what would run, how long it would take, on which device, and what it can find.

    Args:
        estimate: The estimate of a study.
        power: Its power.
        console: Where to print.
    """
    study = estimate.study
    report = study.report
    console.print(f"[bold]{study.name}[/bold]{': ' + plain(study.title) if study.title else ''}\n", highlight=False)
    for cell in study.sweep.cells:
        entries = [entry for entry in estimate.entries if entry.cell == cell]
        console.print(f"[dim]{plain(_heading(study.at(cell), cell))}[/dim]", highlight=False)
        console.print(_entries(entries, timed=estimate.seconds is not None))
        for entry in entries:
            if entry.note:
                console.print(f"[dim]{plain(entry.contestant)}: {plain(entry.note)}[/dim]", highlight=False)
        console.print()
    if any(entry.flag for entry in estimate.entries):
        console.print("[dim]*: its size is not near the budget[/dim]")
    left_out = "" if study.full_ft else f"full_ft does not run: {study.full_ft_reason}"
    console.print(
        f"[dim]{plain(left_out) or 'full_ft and the frozen model run too, unranked'}[/dim]\n", highlight=False
    )
    again = ", and again on a tenth of the data" if report.tenth_of_data else ""
    cells, models = study.sweep.count, ", ".join(study.sweep.models or (study.model,))
    rows = {
        "model": f"{models}, {thousands(estimate.model_parameters)} parameters",
        "precision": ". ".join(filter(None, (str(estimate.precision), estimate.precision.here))),
        "tasks": ", ".join(study.tasks),
        "tuning": describe(study.tuning, study.training.steps),
        "regret": f"measured of {', '.join(study.regret_sample)}, with {len(study.tuning.regret_seeds)} seeds"
        if study.regret_sample
        else "not measured",
        **({"sweep": f"{cells} cells, {study.sweep.design}"} if cells > 1 else {}),
        "reported": f"{_several(len(report.seeds), 'run')} of {_lengths(study)} steps, "
        f"{study.training.batch} x {study.training.length} tokens each{again}",
        "trials": f"{estimate.likely:,}; from {estimate.least:,} to {estimate.most:,}, as searches go",
        "steps": f"{estimate.steps:,}",
        "done": f"{estimate.trials_done:,} trials, {estimate.steps_done:,} steps"
        if estimate.trials_done
        else "nothing yet",
        "runs on": f"{_several(estimate.workers, 'worker process')}, {estimate.device}",
        "time": _time_left(estimate),
        "finds": _finds(power),
        "stopping": stopping_rule(study),
    }
    grid = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for key, value in rows.items():
        add_plain_row(grid, key, value)
    console.print(grid, highlight=False)
    for note in estimate.notes:
        console.print(plain(note), highlight=False)
    show_warning(power, console)


def _heading(study: Study, cell: Cell) -> str:
    """Return the levels of a cell and the size of its contestants in words."""
    size = f"sized to {study.budget:,} trained parameters" if study.budget else "each at its own size"
    levels = Cell(cell.without("budget")).words
    return f"{levels}, {size}" if levels else size


def _lengths(study: Study) -> str:
    return ", ".join(map(str, study.sweep.steps or (study.training.steps,)))


def show_warning(power: Power, console: Console) -> None:
    """Print a warning if a study can find nothing.

    Args:
        power: Its power.
        console: Where to print.
    """
    if power.finds_nothing:
        console.print(
            f"[yellow]This study can hardly find anything: a difference of {power.difference:.3g}, a typical one, would "
            f"be found in {power.of(power.difference):.0%} of cases. Give more seeds, more windows or fewer "
            "contestants.[/yellow]",
            highlight=False,
        )


def _finds(power: Power) -> str:
    if not math.isfinite(power.error):
        return "nothing: with these seeds, the error of a difference is unknown"
    return (
        f"differences of {power.smallest_found:.2g} in {ENOUGH:.0%} of cases, after Holm's correction over "
        f"{power.pairs} pairs; 95 % intervals of about +-{power.half_width:.2g} (noise: {power.noise})"
    )


def _entries(entries: Sequence[Entry], timed: bool) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim", pad_edge=False)
    table.add_column("contestant", no_wrap=True)
    table.add_column("trained", justify="right", no_wrap=True)
    if timed:
        table.add_column("ms a step", justify="right", no_wrap=True)
    table.add_column("settings", overflow="fold")
    for entry in entries:
        cells = [entry.contestant + ("*" if entry.flag else ""), thousands(entry.parameters)]
        if timed:
            cells.append(f"{entry.cost.step * 1000:.0f}" if entry.cost else "?")
        add_plain_row(table, *cells, entry.settings, style="" if entry.ranked else "dim")
    return table


def _time_left(estimate: Estimate) -> str:
    if estimate.steps_done >= estimate.steps:
        return "none: all trials are done"
    if estimate.seconds is None:
        return "unknown: no contestant was timed"
    cores = f", {estimate.seconds * estimate.workers:,.0f} s of one worker" if estimate.workers > 1 else ""
    return f"about {duration(estimate.seconds)}{cores}{' for what is left' if estimate.steps_done else ''}"


def in_a_line(status: StudyStatus) -> str:
    """Return how far a study is, in one line.

    Args:
        status: The status of the study.
    """
    line = f"{status.study.name}: {status.share:.0%} of the training steps, {_several(status.trials, 'trial')} done"
    if status.finished:
        return f"{line}; the study is complete"
    if not status.being_written:
        return f"{line}; no run is under way"
    if status.seconds_left is None:
        return line
    return f"{line}, about {duration(status.seconds_left)} left"


def show_status(status: StudyStatus, console: Console) -> None:
    """Print which trials failed and why, how far a study is, what is running, and which trials diverged.

    Args:
        status: The status of a study.
        console: Where to print.
    """
    _list("failed", [f"{_named(label)}: {label.note}" for label in status.failed], console)
    total = status.steps_done + status.steps_left
    head = (
        f"[bold]{plain(status.study.name)}[/bold]: {status.share:.0%} of {total:,} training steps, "
        f"{_several(status.trials, 'trial')} done"
    )
    if not status.finished and status.seconds_left is not None:
        head += f", about {duration(status.seconds_left)} left on {_several(status.workers, 'worker')}"
    console.print(head, highlight=False)
    console.print(plain(_activity(status)) + "\n", highlight=False)
    for cell, phases in status.phases.items():
        if cell.levels:
            console.print(f"[dim]{plain(cell.words)}[/dim]", highlight=False)
        console.print(_matrix(phases))
        console.print()
    running = [f"{_named(label)}: {duration(label.seconds or 0.0)} so far" for label in status.running]
    unknown = status.being_written and not status.knows_running
    _list("under way", running, console)
    _list("under way or next" if unknown else "next", [_named(label) for label in status.next], console)
    _list("diverged", [_named(label) for label in status.diverged], console)
    for remark in status.remarks:
        console.print(plain(remark), highlight=False)


def _activity(status: StudyStatus) -> str:
    if status.being_written:
        return "A run is writing the ledger."
    if status.finished:
        return f"The study is complete; `{status.command}` shows the results."
    return f"No run is writing the ledger; `{status.command}` continues it."


def _matrix(phases: Mapping[str, Mapping[str, str]]) -> Table:
    tasks = list(dict.fromkeys(task for by_task in phases.values() for task in by_task))
    table = Table(box=None, padding=(0, 1), header_style="dim", pad_edge=False)
    table.add_column("contestant", no_wrap=True)
    for task in tasks:
        table.add_column(plain(task), no_wrap=True)
    for name, by_task in phases.items():
        add_plain_row(table, name, *(by_task[task] for task in tasks), style="dim" if name == FROZEN else "")
    return table


def _named(label: TrialLabel) -> str:
    if label.contestant == FROZEN:
        return f"{label.contestant} on {label.task}"
    return (
        f"{label.contestant} on {label.task}, rate {label.lr:.2g}, seed {label.seed}, {_several(label.steps, 'step')}"
    )


def _list(title: str, lines: Sequence[str], console: Console) -> None:
    if not lines:
        return
    console.print(f"[dim]{title} ({len(lines)})[/dim]", highlight=False)
    for line in lines[:SHOWN]:
        console.print(plain(f"  {line}"), highlight=False)
    if len(lines) > SHOWN:
        console.print(f"  and {len(lines) - SHOWN} more", highlight=False)


def duration(seconds: float) -> str:
    """Return a length of time in words.

    Args:
        seconds: The time in seconds.
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def _several(count: int, thing: str) -> str:
    plural = "es" if thing.endswith("s") else "s"
    return f"{count:,} {thing}{'' if count == 1 else plural}"
