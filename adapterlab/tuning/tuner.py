"""Answer a tuning request: plan a study, run it, rank the contestants, save the winner.

>>> default_folder("models/my-model", "train").as_posix()
'runs/my-model-train'
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from adapterlab.files import write_text
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.design import DesignHistory, Plan, lock_design, plan_of
from adapterlab.lab.run.locate import PLANNING, record_study
from adapterlab.lab.run.prepare import PreparedStudy, prepare
from adapterlab.lab.run.progress import known_costs, known_generating, known_scoring, replay, seconds_left
from adapterlab.lab.run.scheduler import StartExecutor
from adapterlab.lab.study.spec import Study
from adapterlab.report.page import write_report
from adapterlab.tuning.advice import Advice, advise, winner_of
from adapterlab.tuning.clock import WRITING
from adapterlab.tuning.planning import PlanFile, TuningPlan, plan_tuning
from adapterlab.tuning.request import Request
from adapterlab.tuning.scale import FEWEST_SEEDS, MAX_SEEDS, with_seeds
from adapterlab.tuning.winner import ADAPTERS, WINNER, Winner, how_to_load, keep_winner, refuse_foreign
from adapterlab.tuning.workers import Workers
from adapterlab.verdict.study_analysis import Analysis, analyse

RunContests = Callable[[PreparedStudy, Ledger, StartExecutor], list[Contest]]
"""Runs what the ledger lacks of a study, and returns its contests."""
PLAN = "plan.json"
"""Name of the plan's file in a folder of results."""
BY_CLOCK = (
    f"by the clock: {FEWEST_SEEDS} to {MAX_SEEDS} reported runs of each contestant, as many as there is time for, "
    "whatever they show"
)
"""Rule by which a study ends if the user did not choose the number of seeds."""


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
        watch: Called with what is being done before and after the study runs.
        planned: Called with the plan before it runs.
        analysed: Called with the advice before the winner is trained again.

    Returns:
        The advice, with the saved winner.

    Raises:
        AdapterlabError: If the data do not fit the model, the budget or the time is too small, the winner cannot be trained
            again, another run is writing the folder, or its `winner` is not of this command. Nothing is changed then.
    """
    started = time.monotonic()
    refuse_foreign(folder / WINNER)
    with ledger.sole_writer():  # nothing in the folder changes under another run
        pool = Workers(str(folder / ADAPTERS))
        try:
            return _Tuning(request, folder, ledger, run, pool, started).answer(workers, watch, planned, analysed)
        finally:
            pool.close()


class _Tuning:
    """A request being answered."""

    def __init__(
        self, request: Request, folder: Path, ledger: Ledger, run: RunContests, pool: Workers, started: float
    ) -> None:
        self._request, self._folder, self._ledger, self._run, self._pool = request, folder, ledger, run, pool
        self._file, self._started = PlanFile(folder / PLAN, request), started

    def answer(
        self,
        workers: int | None,
        watch: Callable[[str], None],
        planned: Callable[[TuningPlan], None],
        analysed: Callable[[Advice], None],
    ) -> Advice:
        plan = self._file.read()
        if plan is None:
            with planning(self._folder, watch) as watch_planning:
                plan = plan_tuning(self._request, self._folder, workers, self._pool, self._started, watch_planning)
            self._file.write(plan)
        planned(plan)
        prepared, contests, design = self._play(plan)
        watch("writing the report")
        analysis = analyse(prepared, contests, self._ledger, design=design)
        write_report(analysis, self._folder / "report.html")
        return self._advise(analysis, plan, prepared, contests, analysed)

    def _play(self, plan: TuningPlan) -> tuple[PreparedStudy, list[Contest], DesignHistory]:
        """Run the study, at first with few seeds; add seeds while there is time."""
        used = self._used(plan)
        prepared = self._prepared(plan.study)
        design = lock_design(self._folder, self._design(prepared), len(self._ledger))
        if plan.done or self._request.seeds is not None:
            record_study(prepared.study, self._folder)
            return prepared, self._run(prepared, self._ledger, self._pool.start), design
        fewest = plan.study.report.fewest_seeds + 1 if plan.study.report.racing else FEWEST_SEEDS
        prepared = _with_seeds(prepared, min(fewest, len(plan.study.report.seeds)))
        while True:
            record_study(prepared.study, self._folder)
            contests = self._run(prepared, self._ledger, self._pool.start)
            left = self._request.seconds - used - (time.monotonic() - self._started)
            more = more_seeds(prepared, self._ledger, left, plan.workers)
            if more is None:
                break
            prepared = more
        self._file.write(replace(plan, study=prepared.study, done=True))
        return prepared, contests, design

    def _prepared(self, study: Study) -> PreparedStudy:
        return prepare(study, self._folder)

    def _used(self, plan: TuningPlan) -> float:
        """Return the seconds that earlier calls for this request have used."""
        times = [self._ledger.wall_seconds(trial) or 0.0 for trial, *_ in self._ledger]
        return sum(times) / plan.workers

    def _design(self, prepared: PreparedStudy) -> Plan:
        """Return the design of the study, in which the clock decides the number of seeds unless the user did."""
        found = plan_of(prepared.resolved, None)
        if self._request.seeds is not None:
            return found
        study = {**found["study"], "report": {**found["study"]["report"], "seeds": BY_CLOCK}}
        return {**found, "study": study, "stopping": BY_CLOCK}

    def _advise(
        self,
        analysis: Analysis,
        plan: TuningPlan,
        prepared: PreparedStudy,
        contests: list[Contest],
        analysed: Callable[[Advice], None],
    ) -> Advice:
        board, task = analysis.main, plan.study.tasks[0]
        best = winner_of(board)
        rate = None if best is None else best.rates[task]
        name = None if best is None else best.contestant

        def advice(winner: Winner | None, code: str) -> Advice:
            return Advice(advise(board), name, rate, analysis, plan.notes, winner, code, self._folder)

        analysed(advice(None, ""))
        if best is None:
            return advice(None, "")
        cell = prepared.resolved.main.cell
        own = (c for c in contests if (c.contestant, c.task, c.resolved.cell) == (best.contestant, task, cell))
        winner = keep_winner(next(own), self._folder / WINNER, self._folder / ADAPTERS)
        code = how_to_load(winner, plan.study.model, prepared.resolved.tasks[task], self._folder / WINNER)
        return advice(winner, code)


def more_seeds(prepared: PreparedStudy, ledger: Ledger, seconds: float, workers: int) -> PreparedStudy | None:
    """Return a study with as many more seeds as there is time for, by the times of its trials so far.

    Args:
        prepared: The study, whose trials are done.
        ledger: Its ledger.
        seconds: Time that is left, for the report and the winner too.
        workers: Number of workers.

    Returns:
        The study; None if there is no time for one more seed.
    """
    found, costs = None, known_costs(replay(prepared.contests(), ledger))
    if not costs:
        return None
    room = max(0.0, seconds - WRITING)
    for count in range(len(prepared.study.report.seeds) + 1, MAX_SEEDS + 1):
        more = _with_seeds(prepared, count)
        states = replay(more.contests(), ledger)
        needed = seconds_left(states, known_costs(states), known_scoring(states), workers, known_generating(states))
        if needed is None or needed > room:
            break
        found = more
    return found


def _with_seeds(prepared: PreparedStudy, count: int) -> PreparedStudy:
    study = with_seeds(prepared.study, count)
    return replace(prepared, resolved=replace(prepared.resolved, study=study))


@contextmanager
def planning(folder: Path, watch: Callable[[str], None]) -> Iterator[Callable[[str], None]]:
    """Record what is being done while a study is planned, for `adapterlab status`.

    Args:
        folder: Folder of the results.
        watch: Called with what is being done.

    Yields:
        The function to call with what is being done.
    """
    file, started = folder / PLANNING, time.time()

    def recorded(stage: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps({"stage": stage, "started": started}) + "\n")
        watch(stage)

    try:
        yield recorded
    finally:
        file.unlink(missing_ok=True)
