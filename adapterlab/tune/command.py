"""`adapterlab tune`: plan, run, rank, advise, keep the winner."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.analysis.scoreboard import Scoreboard, make_scoreboard
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.locate import LEDGER, record_study
from adapterlab.lab.study.spec import Study
from adapterlab.report.page import write_report
from adapterlab.tasks import task
from adapterlab.tune.advice import advise, board, incidents, ranked, winner_of
from adapterlab.tune.planning import make_plan
from adapterlab.tune.request import Request
from adapterlab.tune.winner import how_to_load, keep_winner

Run = Callable[[Study, Ledger], list[Contest]]


def default_folder(request: Request) -> Path:
    """Where results go if it is not said."""
    return Path("runs") / f"{Path(request.model).name}-{request.data.name}"


def open_ledger(folder: Path) -> Ledger:
    """The ledger of a folder of results."""
    return Ledger(folder / LEDGER)


def tune(request: Request, folder: Path, ledger: Ledger, workers: int | None, run: Run, console: Console) -> None:
    """Answer a request; what `folder` has of it already is not run again."""
    with console.status("reading the data") as display:
        plan = make_plan(request, folder / "plan.json", workers, display.update)
    for note in plan.notes:
        console.print(note, highlight=False, markup=False)
    record_study(plan.study, folder)
    before = len(ledger)
    results = Results(run(plan.study, ledger))
    if len(ledger) == before:
        console.print(f"All {before} trials are there; nothing to run.")
    scoreboard = make_scoreboard(results)
    write_report(
        results, scoreboard, None, [env for _, _, env in ledger], plan.model_parameters, folder / "report.html"
    )
    console.print()
    console.print(board(results, scoreboard), highlight=False)
    console.print(f"[dim]{_legend(results, scoreboard)}[/dim]\n", highlight=False)
    for line in incidents(results):
        console.print(line, style="dim", highlight=False, markup=False)
    console.print(f"[bold]{advise(results, scoreboard)}[/bold]", highlight=False)
    console.print(f"\nThe report: {folder / 'report.html'}", highlight=False, soft_wrap=True)
    best = winner_of(scoreboard)
    if best is None:
        return
    with console.status(f"training {best.contestant} to keep it"):
        winner = keep_winner(results.contests[best.contestant, plan.study.tasks[0]], folder / "winner")
    console.print(f"{best.contestant}, trained: {folder / 'winner/adapterlab'}", highlight=False, soft_wrap=True)
    for made, what, name in ((winner.peft, "for PEFT", "peft"), (winner.merged, "merged into the model", "merged")):
        if made:
            console.print(f"{what}: {folder / 'winner' / name}", highlight=False, soft_wrap=True)
    if winner.why:
        console.print(f"[dim]{winner.why}[/dim]", highlight=False)
    console.print("\nTo load it:", highlight=False)
    snippet = how_to_load(winner, plan.study.model, task(plan.study.tasks[0]), folder / "winner")
    console.print(snippet, highlight=False, markup=False, soft_wrap=True)


def _legend(results: Results, scoreboard: Scoreboard) -> str:
    shown = f"learned: {results.unit} better than the untrained model on test rows"
    extra = "; ms a step; MB a step holds beyond the model"
    full = "; full_ft is not ranked" if any(not row.ranked for row in scoreboard.rows) else ""
    flagged = "; * no size near the budget" if any(not row.comparable for row in ranked(scoreboard)) else ""
    return shown + extra + full + flagged
