"""A study before it is run and while it runs, on a terminal of 80 columns."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from adapterlab.lab.run.estimate import Entry, Plan
from adapterlab.lab.run.progress import State, distinct
from adapterlab.lab.trial.spec import FROZEN, Trial
from adapterlab.report.terminal import thousands

SHOWN = 4
"""Trials named of each kind."""


def show_plan(plan: Plan, console: Console) -> None:
    """Print what would run, how long it would take, and on what."""
    study = plan.study
    tuning, report = study.tuning, study.report
    console.print(f"[bold]{study.name}[/bold]{': ' + study.title if study.title else ''}\n", highlight=False)
    for part in study.at_each_budget:
        size = f"sized to {part.budget:,} trained parameters" if part.budget else "each in its own size"
        console.print(f"[dim]{size}[/dim]", highlight=False)
        console.print(_entries([e for e in plan.entries if e.budget == part.budget], timed=plan.seconds is not None))
        console.print()
    if any(entry.flag for entry in plan.entries):
        console.print("[dim]* is not near the budget: it has no such size[/dim]")
    left_out = "" if study.full_ft else f"full_ft does not run along: {study.full_ft_reason}"
    console.print(f"[dim]{left_out or 'full_ft and the frozen model run along, unranked'}[/dim]\n", highlight=False)
    again = ", and again on a tenth of the data" if report.tenth_of_data else ""
    rows = {
        "model": f"{study.model}, {thousands(plan.model_parameters)} parameters, {study.training.dtype}",
        "tasks": ", ".join(study.tasks),
        "tuning": f"{tuning.budget_steps} steps for each contestant and task: {tuning.rates} rates of {tuning.first_steps}, "
        f"then the best {tuning.keep} of {tuning.second_steps}",
        "reported": f"{_several(len(report.seeds), 'run')} of {study.training.steps} steps, "
        f"{study.training.batch} x {study.training.length} tokens each{again}",
        "trials": f"{plan.likely:,}; at least {plan.least:,} and at most {plan.most:,} where rates diverge",
        "steps": f"{plan.steps:,}",
        "done": f"{plan.trials_done:,} trials, {plan.steps_done:,} steps" if plan.trials_done else "nothing yet",
        "runs on": f"{_several(plan.workers, 'worker process')}, {plan.device}",
        "time": _time_left(plan),
    }
    grid = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for key, value in rows.items():
        grid.add_row(key, value)
    console.print(grid, highlight=False)


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
        table.add_row(*cells, entry.settings, style="" if entry.ranked else "dim")
    return table


def _time_left(plan: Plan) -> str:
    if plan.steps_done >= plan.steps:
        return "none: all of it is there"
    if plan.seconds is None:
        return "not known: no contestant was timed"
    return f"about {duration(plan.seconds)}{' for what is left' if plan.steps_done else ''}"


def show_status(
    states: Sequence[State],
    seconds: float | None,
    workers: int,
    held: bool,
    begun: Mapping[str, float],
    command: str,
    console: Console,
) -> None:
    """Print how far a study is, what is under way, and what came to nothing.

    `held` if a run has the ledger; `begun` says when it began which trials, in seconds since the epoch.
    """
    study = states[0].contest.study
    whole = distinct(states)
    done, left = sum(s.steps for s in whole), sum(s.steps_left for s in whole)
    finished = all(state.contest.finished for state in states)
    trials = {trial: (state, outcome) for state in states for trial, outcome in state.seen.items()}
    share = 1.0 if finished else min(0.99, done / max(1, done + left))
    head = f"[bold]{study.name}[/bold]: {share:.0%} of {done + left:,} training steps, {_several(len(trials), 'trial')} done"
    if not finished and seconds is not None:
        head += f", about {duration(seconds)} left on {_several(workers, 'worker')}"
    console.print(head, highlight=False)
    console.print(_doing(finished, held, command) + "\n", highlight=False)
    for budget in dict.fromkeys(s.contest.study.budget for s in states):
        if any(s.contest.study.budget != study.budget for s in states):
            console.print(f"[dim]sized to {budget:,} trained parameters[/dim]", highlight=False)
        console.print(_matrix([s for s in states if s.contest.study.budget == budget]))
        console.print()
    needed = {trial: state for state in states for trial in state.missing}
    running = [(state, trial) for trial, state in needed.items() if trial.id in begun]
    now = time.time()
    _list("under way", [f"{_named(s, t)}: {duration(now - begun[t.id])} so far" for s, t in running], console)
    waiting = [_named(state, trial) for trial, state in needed.items() if trial.id not in begun]
    _list("under way or next" if held and not begun else "next", waiting, console)
    lost = {kind: [(s, t, o) for t, (s, o) in trials.items() if o.status == kind] for kind in ("diverged", "failed")}
    _list("diverged", [_named(s, t) for s, t, _ in lost["diverged"]], console)
    _list("failed", [f"{_named(s, t)}: {o.note}" for s, t, o in lost["failed"]], console)


def _doing(finished: bool, held: bool, command: str) -> str:
    if held:
        return "A run is writing the ledger."
    if finished:
        return f"It is complete; `{command}` shows the results."
    return f"No run is writing the ledger; `{command}` goes on."


def _matrix(states: Sequence[State]) -> Table:
    tasks = list(dict.fromkeys(state.contest.task for state in states))
    table = Table(box=None, padding=(0, 1), header_style="dim", pad_edge=False)
    table.add_column("contestant", no_wrap=True)
    for task in tasks:
        table.add_column(task, no_wrap=True)
    cells = {(s.contest.contestant, s.contest.task): s.phase for s in states}
    for name in dict.fromkeys(state.contest.contestant for state in states):
        table.add_row(name, *(cells[name, task] for task in tasks), style="dim" if name == FROZEN else "")
    return table


def _named(state: State, trial: Trial) -> str:
    name = state.contest.contestant
    if name == FROZEN:
        return f"{name} on {trial.task}"
    return f"{name} on {trial.task}, rate {trial.lr:.2g}, seed {trial.seed}, {_several(trial.steps, 'step')}"


def _list(title: str, found: Sequence[str], console: Console) -> None:
    if not found:
        return
    console.print(f"[dim]{title} ({len(found)})[/dim]", highlight=False)
    for line in found[:SHOWN]:
        console.print(f"  {line}", markup=False, highlight=False)
    if len(found) > SHOWN:
        console.print(f"  and {len(found) - SHOWN} more", highlight=False)


def duration(seconds: float) -> str:
    """A length of time in words."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def _several(count: int, thing: str) -> str:
    plural = "es" if thing.endswith("s") else "s"
    return f"{count:,} {thing}{'' if count == 1 else plural}"
