"""Answer a tuning request: plan a study, run it, rank the contestants, save the winner.

>>> default_folder("models/my-model", "train").as_posix()
'runs/my-model-train'
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.design import lock_design, plan_of
from adapterlab.lab.run.locate import record_study
from adapterlab.lab.run.prepare import PreparedStudy, prepare
from adapterlab.report.page import write_reports
from adapterlab.tuning.advice import Advice, advise, winner_of
from adapterlab.tuning.planning import TuningPlan, plan_tuning
from adapterlab.tuning.request import Request
from adapterlab.tuning.winner import WINNER, Winner, how_to_load, keep_winner, refuse_foreign
from adapterlab.verdict.study_analysis import analyse

RunContests = Callable[[PreparedStudy, Ledger], list[Contest]]
"""Runs what the ledger lacks of a study, and returns its contests."""


def default_folder(model: str, data: str) -> Path:
    """Return the folder of the results if none is given.

    Args:
        model: Name or folder of the model.
        data: Name of the data.
    """
    return Path("runs") / f"{Path(model).name}-{data}"


def tune(
    request: Request,
    folder: Path,
    ledger: Ledger,
    workers: int | None,
    run: RunContests,
    *,
    watch: Callable[[str], None] = lambda _: None,
    planned: Callable[[TuningPlan], None] = lambda _: None,
    analysed: Callable[[Advice], None] = lambda _: None,
) -> Advice:
    """Answer a request; trials that the folder's ledger has are not run again.

    Args:
        request: The request.
        folder: Folder of the results.
        ledger: The folder's ledger.
        workers: Number of worker processes; None for one for each core or GPU.
        run: Runs the study.
        watch: Called with what is being done while the study is planned.
        planned: Called with the plan before it runs.
        analysed: Called with the advice before the winner is trained again.

    Returns:
        The advice, with the saved winner.

    Raises:
        AdapterlabError: If the data do not fit the model, the budget is too small, the winner cannot be trained again,
            another run is writing the folder, or its `winner` is not of this command. Nothing is changed then.
    """
    refuse_foreign(folder / WINNER)
    with ledger.sole_writer():  # nothing in the folder changes under another run
        return _tune(request, folder, ledger, workers, run, watch=watch, planned=planned, analysed=analysed)


def _tune(
    request: Request,
    folder: Path,
    ledger: Ledger,
    workers: int | None,
    run: RunContests,
    *,
    watch: Callable[[str], None],
    planned: Callable[[TuningPlan], None],
    analysed: Callable[[Advice], None],
) -> Advice:
    plan = plan_tuning(request, folder / "plan.json", workers, watch, ledger.record)
    planned(plan)
    record_study(plan.study, folder)
    prepared = prepare(plan.study, folder)
    design = lock_design(folder, plan_of(prepared.resolved, None), len(ledger))
    contests = run(prepared, ledger)
    analysis = analyse(prepared, contests, ledger, design=design)
    write_reports(analysis, folder)
    board = analysis.main
    best, task = winner_of(board), plan.study.tasks[0]
    rate = None if best is None else best.rates[task]
    name = None if best is None else best.contestant

    def advice(winner: Winner | None, code: str) -> Advice:
        return Advice(advise(board), name, rate, analysis, plan.notes, winner, code, folder)

    analysed(advice(None, ""))
    if best is None:
        return advice(None, "")
    contest = next(c for c in contests if (c.contestant, c.task) == (best.contestant, task))
    winner = keep_winner(contest, folder / WINNER)
    code = how_to_load(winner, plan.study.model, prepared.resolved.tasks[task], folder / WINNER)
    return advice(winner, code)
