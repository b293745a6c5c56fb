"""What to take from a contest, in a few sentences, and its board in 80 columns."""

from __future__ import annotations

import math
from collections import Counter
from statistics import fmean

from rich.table import Table

from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.analysis.scoreboard import Lead, Row, Scoreboard
from adapterlab.lab.analysis.statistics import Paired
from adapterlab.tasks.base import Part


def ranked(scoreboard: Scoreboard) -> list[Row]:
    """The adapters that finished, best first; full fine-tuning is shown and not ranked."""
    return [row for row in scoreboard.rows if row.ranked and math.isfinite(row.gain.mean)]


def winner_of(scoreboard: Scoreboard) -> Row | None:
    """The adapter that learned most, if it learned anything."""
    best = next(iter(ranked(scoreboard)), None)
    return best if best is not None and best.gain.mean > 0 else None


def advise(results: Results, scoreboard: Scoreboard) -> str:
    """Which adapter, which learning rate, whether the difference is real, what it costs."""
    rows = ranked(scoreboard)
    best = winner_of(scoreboard)
    if best is None:
        return "No adapter learned anything here that the untrained model did not know: give more time, or better rows."
    rate = best.rates[results.study.tasks[0]]
    sure = f" (95 % interval {best.gain.low:.3f} to {best.gain.high:.3f})" if best.gain.real else ""
    doubt = "" if best.gain.real else ", which cannot be told from chance"
    first = (
        f"Take {best.contestant} at a learning rate of {rate:.2g}: {best.gain.mean:.3f} {results.unit} better than the "
        f"untrained model on rows that it never saw{sure}{doubt}."
    )
    return " ".join([first, *_lead(rows, results), *_excess(best, rows, results), _costs(best, rows, results)])


def _lead(rows: list[Row], results: Results) -> list[str]:
    if len(rows) < 2:
        return []
    lead = Lead.of([row.contestant for row in rows], results)
    behind, even = lead.behind, [*lead.same, *lead.unknown]
    if not even:
        return [f"Its lead over {_listed(behind)} is real (p < 0.05, corrected for the number of comparisons)."]
    said = f"It cannot be told from {_listed(even)}"
    return [f"{said}; it is really ahead of {_listed(behind)}." if behind else f"{said}: any of them will do."]


def _excess(best: Row, rows: list[Row], results: Results) -> list[str]:
    """That the best is larger than was asked for, if it is, and who is not."""
    budget, the_task = results.study.budget, results.study.tasks[0]
    if budget is None or best.parameters <= budget:
        return []
    said = f"It trains {_count(best.parameters)} parameters, more than the {_count(budget)} asked for"
    within = next((row for row in rows if row.parameters <= budget and row.gain.mean > 0), None)
    if within is None:
        return [f"{said}, as all do."]
    return [f"{said}; the best within that is {within.contestant}, at {within.rates[the_task]:.2g}."]


def _costs(best: Row, rows: list[Row], results: Results) -> str:
    fastest = min(rows, key=lambda row: row.step_seconds)
    step = f"A step takes {best.step_seconds * 1000:.0f} ms"
    if fastest is not best and best.step_seconds > 1.1 * fastest.step_seconds:
        step += f", {best.step_seconds / fastest.step_seconds:.1f} times that of {fastest.contestant}"
    held = peak(results, best.contestant)
    memory = f" and {_megabytes(held)} beyond the model" if held >= 1e6 else ""
    if not math.isfinite(best.forgetting.mean):
        return f"{step}{memory}."
    lost = best.forgetting
    kept = (
        f"it forgets {lost.mean:.3f} {results.unit} of what the model knew"
        if lost.low > 0
        else "what it forgets of what the model knew cannot be told from nothing"
    )
    return f"{step}{memory}; {kept}."


def peak(results: Results, contestant: str) -> float:
    """Bytes that a training step holds beyond the model's, the mean of the reported runs; 0 if unknown."""
    contest = results.contests[contestant, results.study.tasks[0]]
    return fmean([outcome.peak_bytes for _, outcome in contest.reported.values()] or [0])


def incidents(results: Results) -> list[str]:
    """Who ran out of memory, diverged or failed, and how often."""
    said: Counter[str] = Counter()
    for contest in results.contests.values():
        for rung in (contest.first, contest.second, contest.reported):
            for _, outcome in rung.values():
                if outcome.note:
                    what = "the loss diverged" if outcome.status == "diverged" else outcome.note
                    said[f"{contest.contestant}: {what}"] += 1
    return [f"{what} ({count} trial{'s' * (count > 1)})" for what, count in said.items()]


def board(results: Results, scoreboard: Scoreboard) -> Table:
    """The ranking, best first."""
    the_task = results.study.tasks[0]
    before = results.frozen(the_task)
    forgets, ood = Part.BASE in before.scores, Part.OOD in before.scores
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("", justify="right")
    table.add_column("contestant", no_wrap=True)
    headings = ["rate", "trained", "learned (95 %)", *(["ood"] if ood else []), *(["forgot"] if forgets else [])]
    for heading in (*headings, "ms", "MB"):
        table.add_column(heading, justify="right", no_wrap=True)
    order = {row.contestant: str(i) for i, row in enumerate(ranked(scoreboard), 1)}
    for row in scoreboard.rows:
        rate = row.rates[the_task]
        cells = [
            order.get(row.contestant, ""),
            row.contestant + ("" if row.comparable or not row.ranked else "*"),
            f"{rate:.2g}" if rate else "diverged",
            _count(row.parameters),
            _interval(row.gain),
            *([_signed(row.gain_ood.mean)] if ood else []),
            *([_signed(row.forgetting.mean)] if forgets else []),
            f"{row.step_seconds * 1000:.0f}" if math.isfinite(row.step_seconds) else "-",
            f"{held / 1e6:.0f}" if (held := peak(results, row.contestant)) else "-",
        ]
        table.add_row(*cells, style="" if row.contestant in order else "dim")
    return table


def _interval(effect: Paired) -> str:
    if not math.isfinite(effect.low):
        return _signed(effect.mean)
    return f"{_signed(effect.mean)} [{_signed(effect.low)},{_signed(effect.high)}]"


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}" if math.isfinite(value) else "-"


def _count(number: int) -> str:
    return f"{number / 1e6:.1f}M" if number >= 1e6 else f"{number / 1e3:.1f}k"


def _megabytes(number: float) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
