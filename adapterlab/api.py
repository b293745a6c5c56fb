"""The Python interface: everything that the command line does, as functions.

>>> import adapterlab
>>> study = adapterlab.Study(name="mine", tasks=["prose"], contestants=[{"adapter": "lora"}, {"adapter": "ia3"}])
>>> adapterlab.estimate(study, measure=False).likely
31
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from pydantic import ValidationError
from torch import nn

from adapterlab import argmap
from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.evidence.from_study import table_of
from adapterlab.evidence.table import Table
from adapterlab.inputs import Processor, Rows, save_model, save_rows
from adapterlab.lab.analysis import calibration, pairwise
from adapterlab.lab.analysis.calibration import Calibration
from adapterlab.lab.analysis.pairwise import Comparison
from adapterlab.lab.analysis.power import Power, power_of
from adapterlab.lab.analysis.trial_table import trial_table
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run import transfer
from adapterlab.lab.run.design import lock_design, plan_of
from adapterlab.lab.run.estimate import Estimate, estimate_study
from adapterlab.lab.run.locate import (
    LEDGER,
    StudySource,
    called,
    existing_ledger,
    open_study,
    record_study,
    run_command,
)
from adapterlab.lab.run.prepare import prepare
from adapterlab.lab.run.progress import replay
from adapterlab.lab.run.rate_prediction import RatePrediction
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.run.scheduler import Watch, run_study
from adapterlab.lab.run.status import StudyStatus, study_status
from adapterlab.lab.run.transfer import Imported
from adapterlab.lab.study.spec import Data, Study
from adapterlab.report.page import write_report
from adapterlab.report.verdict_json import write_verdict
from adapterlab.tuning import rate, tuner
from adapterlab.tuning.advice import Advice
from adapterlab.tuning.planning import TuningPlan
from adapterlab.tuning.rate import make_rate_request
from adapterlab.tuning.request import make_request
from adapterlab.verdict.check_tests import read_tests
from adapterlab.verdict.lock import LockStatus, find_lock
from adapterlab.verdict.stored_results import StoredResults, map_of, store_of
from adapterlab.verdict.study_analysis import Analysis, analyse


def run(
    study: StudySource = None,
    *,
    out: str | Path | None = None,
    map: str | Path | argmap.Map | None = None,  # noqa: A002
    model: str | Path | nn.Module | None = None,
    tokenizer: Processor | None = None,
    data: Mapping[str, Rows | Mapping[str, Rows]] | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    shard: int | None = None,
    lanes: int | None = None,
    trust: bool = False,
    evidence: str | Path | None = None,
    relevance: float | None = None,
    lock: str | Path | None = None,
    wait: Callable[[], None] | None = None,
    watch: Watch = lambda _: None,
    note: Callable[[str], None] = lambda _: None,
) -> Analysis:
    """Run a study, resuming where it stopped, and analyse it.

    Writes `design.json`, `ledger.sqlite`, `report.html` and `verdict.json` to the folder of the results, and
    `precision.json` if the precision is chosen by a check.

    Args:
        study: A `Study`, a TOML file, the name of a shipped study, or a folder of results; the quick study if None.
        out: Folder of the results; `runs/NAME` if None.
        map: Argument map whose claims are tested; the built-in one if None.
        model: Model in place of the study's: a folder, a hub id, or a model of transformers in memory.
        tokenizer: Tokenizer of a model in memory.
        data: Tasks made of data in memory, in place of the study's `data` of the same name: by task, the training rows, or
            the rows of `train`, `eval`, `ood` and `keep`.
        workers: Number of worker processes; one for each core or GPU if None.
        cluster: Address of a Ray cluster that runs the trials: `HOST:PORT`, or `auto`.
        shard: Devices that one trial's model is divided over.
        lanes: Trials that may be trained in one pass; they differ only by learning rate and seed.
        trust: True to trust the Python files that the study names, from now on and as they are.
        evidence: Folder with tables of other results for the map's claims, besides those of the package.
        relevance: Correlation of the results with what the claims are about, from 0 to 1; by the model's size and the
            training if None.
        lock: Lock of the map (`adapterlab map lock`); if None, the one in the folder of the results or beside the map.
        wait: Called if another run is writing the ledger, before waiting for its end; None to refuse instead.
        watch: Called with the progress at the start and after each trial.
        note: Called with a remark before the first trial, such as that this machine is slow at the study's precision.

    Returns:
        The analysis of the whole study.

    Raises:
        AdapterlabError: If the study, map, lock, model or data cannot be used as given.
    """
    spec, folder = open_study(study, None if out is None else Path(out), trust=trust)
    spec = _with_inputs(spec, folder / "inputs", model, tokenizer, data)
    spec = spec.limited(workers=workers, cluster=cluster, shard=shard, lanes=lanes)
    the_map = map_of(map)
    read_tests(the_map, [entry.name for entry in spec.entrants])  # a mistake surfaces before anything is trained
    store = store_of(evidence, relevance)  # as does one in the user's tables
    locked = find_lock(the_map, folder, None if lock is None else Path(lock))
    ledger = Ledger(folder / LEDGER)
    with ledger.sole_writer(wait):  # nothing in the folder changes under another run
        record_study(spec, folder)
        prepared = prepare(spec, folder)
        if prepared.resolved.precision.here:
            note(prepared.resolved.precision.here)
        design = lock_design(folder, plan_of(prepared.resolved, the_map.source.text), len(ledger))
        status = None
        if locked is not None:
            changed = locked.changes(the_map, prepared.resolved)
            status = LockStatus(locked, tuple(changed), ledger.ended_by(locked.date))
        contests = run_study(prepared, ledger, watch=watch)
        analysis = analyse(prepared, contests, ledger, the_map, design, status, store, relevance)
        write_report(analysis, folder / "report.html")
        write_verdict(analysis, folder / "verdict.json")
    return analysis


def analysis(
    study: StudySource = None,
    *,
    out: str | Path | None = None,
    map: str | Path | argmap.Map | None = None,  # noqa: A002
    evidence: str | Path | None = None,
    relevance: float | None = None,
    lock: str | Path | None = None,
) -> Analysis:
    """Analyse the results of a study as they are; no trial is run, and nothing is written.

    Args:
        study: As for `run`.
        out: Folder of the results; `runs/NAME` if None.
        map: Argument map whose claims are tested; the built-in one if None.
        evidence: As for `run`.
        relevance: As for `run`.
        lock: As for `run`.

    Returns:
        The analysis; of the contests that are finished if the study is not, with a remark that says so.

    Raises:
        AdapterlabError: If nothing has been run into the folder, too little of it is finished, or the map or the lock
            cannot be used as given.
    """
    results = StoredResults.open(study, out, map, evidence, relevance, lock)
    return results.analyse(results.require())


def estimate(
    study: StudySource = None,
    *,
    out: str | Path | None = None,
    measure: bool = True,
    watch: Callable[[str], None] = lambda _: None,
    **limits: int | str | None,
) -> Estimate:
    """Estimate the trials, steps and time of a study before it runs.

    Args:
        study: As for `run`.
        out: Folder of results; trials there count as done.
        measure: True to train each contestant for a few steps in this process, to time it.
        watch: Called with the name of each contestant before it is timed.
        **limits: `workers`, `cluster`, `shard` or `lanes`, as for `run`.

    Returns:
        The estimate.

    Raises:
        AdapterlabError: If the study is not valid, or a contestant does not fit the model.
    """
    spec, folder = open_study(study, None if out is None else Path(out))
    ledger = Ledger(folder / LEDGER) if (folder / LEDGER).is_file() else None
    return estimate_study(prepare(spec.limited(**limits), folder), ledger, measure=measure, watch=watch)


def power(study: StudySource = None, *, out: str | Path | None = None) -> Power:
    """Estimate which differences a study can find, and how wide its intervals will be, before it runs.

    Args:
        study: As for `run`.
        out: Folder of results; the noise of its trials is used if there are enough of them.

    Returns:
        The power at the main cell of the study's sweep.

    Raises:
        AdapterlabError: If the study is not valid.
    """
    spec, folder = open_study(study, None if out is None else Path(out))
    ledger = Ledger(folder / LEDGER) if (folder / LEDGER).is_file() else None
    return power_of(resolve(spec), ledger)


def status(study: StudySource = None, *, out: str | Path | None = None, workers: int | None = None) -> StudyStatus:
    """Return the status of a study: what is done, running, diverged or failed, and the time left.

    Args:
        study: As for `run`.
        out: Folder of the results; `runs/NAME` if None.
        workers: Number of workers that the rest is estimated for.

    Raises:
        AdapterlabError: If nothing has been run into the folder.
    """
    spec, folder = open_study(study, None if out is None else Path(out), reading=True)
    name = called(study, spec)
    ledger = existing_ledger(folder, name)
    return study_status(prepare(spec, folder), ledger, run_command(name, folder), workers)


def compare(
    first: str,
    second: str,
    *,
    study: StudySource = None,
    tasks: Sequence[str] = (),
    metric: str = "in_domain",
    at: Mapping[str, object] | None = None,
    out: str | Path | None = None,
) -> Comparison:
    """Compare two contestants over the finished trials of a study.

    Args:
        first: Name of a contestant.
        second: Name of another.
        study: As for `run`.
        tasks: Tasks to compare on; all of the study if empty.
        metric: Name of the metric.
        at: By factor that the study sweeps, the level, such as `{"rank": 8}`; that of the main cell for other factors.
        out: Folder of the results; `runs/NAME` if None.

    Returns:
        The paired difference, with its interval, and the conclusion as `sentence`.

    Raises:
        AdapterlabError: If a name is not in the study, or a contest is not finished.
    """
    spec, folder = open_study(study, None if out is None else Path(out), reading=True)
    name = called(study, spec)
    ledger = existing_ledger(folder, name)
    return pairwise.compare(
        prepare(spec, folder),
        ledger,
        (first, second),
        tasks=tasks,
        metric=metric,
        at=at,
        command=run_command(name, folder),
    )


def retry(
    study: StudySource = None,
    *,
    failed: bool = False,
    diverged: bool = False,
    trials: Sequence[str] = (),
    out: str | Path | None = None,
) -> int:
    """Take trials that failed or diverged out of the ledger, so that the next run trains them again.

    Args:
        study: As for `run`.
        failed: True for the trials that failed; they are meant too if nothing else is.
        diverged: True for the trials that diverged.
        trials: Ids of single trials, or their first digits.
        out: Folder of the results; `runs/NAME` if None.

    Returns:
        The number of trials that are open again.

    Raises:
        AdapterlabError: If nothing has been run into the folder, a run is writing to it, or no trial has such an id.
    """
    spec, folder = open_study(study, None if out is None else Path(out), reading=True)
    ledger = existing_ledger(folder, called(study, spec))
    wanted = {"failed"} if failed or not (diverged or trials) else set()
    wanted |= {"diverged"} if diverged else set()
    with ledger.sole_writer():
        statuses = ledger.statuses()
        chosen = {name for name, status in statuses.items() if status in wanted}
        for given in trials:
            found = [name for name in statuses if given and name.startswith(given.lower())]
            if len(found) != 1:
                listed = ", ".join(name for name, status in statuses.items() if status != "ok") or "none"
                raise AdapterlabError(
                    f"{'several trials have ids that start' if found else 'no trial has an id that starts'} with {given!r} "
                    f"in {folder}: those that failed or diverged are {listed}"
                )
            chosen |= set(found)
        return ledger.remove(chosen)


def trials(study: StudySource = None, *, out: str | Path | None = None) -> pd.DataFrame:
    """Return the finished trials of a study as a table, one row for each trial and contestant that uses it.

    Args:
        study: As for `run`.
        out: Folder of the results; `runs/NAME` if None.

    Raises:
        AdapterlabError: If nothing has been run into the folder.
    """
    spec, folder = open_study(study, None if out is None else Path(out), reading=True)
    ledger = existing_ledger(folder, called(study, spec))
    return trial_table(prepare(spec, folder), ledger)


def import_trials(file: str | Path, study: StudySource = None, *, out: str | Path | None = None) -> Imported:
    """Read trials that `adapterlab export` wrote into a study's results, all or none.

    The study goes on as it began: its design with the dates, its precision and its locks are in the file too, and are
    written where the folder lacks them.

    Args:
        file: The Parquet file.
        study: As for `run`; the study that the file names if None.
        out: Folder of the results; `runs/NAME` if None.

    Returns:
        The folder, and the numbers of trials that are new, were there already, and ran with other code.

    Raises:
        AdapterlabError: If the file or a row of it cannot be used, the ledger has another outcome of a trial, or a run is
            writing it. Nothing is written then.
    """
    return transfer.import_trials(Path(file), study, None if out is None else Path(out))


def evidence_of(study: StudySource = None, *, out: str | Path | None = None) -> Table:
    """Return the results of a study as a table of evidence, for other studies' claims.

    Args:
        study: As for `run`.
        out: Folder of the results; `runs/NAME` if None.

    Returns:
        The table; `adapterlab.evidence.Store(folder).add` keeps it.

    Raises:
        AdapterlabError: If nothing has been run into the folder, or no contest is finished.
    """
    spec, folder = open_study(study, None if out is None else Path(out), reading=True)
    ledger = existing_ledger(folder, called(study, spec))
    prepared = prepare(spec, folder)
    contests = [state.contest for state in replay(prepared.contests(), ledger)]
    used = [trial for contest in contests for trial in contest.trials]
    last = max((origin.last for origin in ledger.origins(used)), default=None)
    return table_of(prepared, contests, "" if last is None else f"{last:%Y-%m}")


def calibrate(
    study: StudySource = None,
    *,
    ledger: str | Path | None = None,
    studies: int = 200,
    watch: Callable[[float], None] = lambda _: None,
) -> Calibration:
    """Simulate studies without an effect and with one of known size, and count how often an effect is found.

    Args:
        study: As for `run`.
        ledger: Ledger of a finished study to take the noise from; the quick study's noise if None.
        studies: Number of simulated studies for each effect.
        watch: Called with each effect before it is simulated.

    Returns:
        The detection rates for each effect.

    Raises:
        AdapterlabError: If there is no such ledger, or it has too few trials.
    """
    spec, _ = open_study(study)
    return calibration.calibrate(spec, None if ledger is None else Path(ledger), studies, watch)


def tune(
    model: str | Path | nn.Module,
    train: Rows,
    *,
    tokenizer: Processor | None = None,
    eval: Rows | None = None,  # noqa: A002
    ood: Rows | None = None,
    keep: Rows | None = None,
    contestants: Sequence[str] | str | None = None,
    time: str = "15m",
    budget: str | int | None = None,
    seeds: int | None = None,
    batch: int = 8,
    length: int | None = None,
    ranks: Sequence[int] | str | None = None,
    targets: Sequence[str] | str | None = None,
    methods: str | None = None,
    metric: str | None = None,
    max_new_tokens: int | None = None,
    trust: bool = False,
    out: str | Path | None = None,
    workers: int | None = None,
    run: tuner.RunContests | None = None,
    watch: Callable[[str], None] = lambda _: None,
    planned: Callable[[TuningPlan], None] = lambda _: None,
    analysed: Callable[[Advice], None] = lambda _: None,
) -> Advice:
    """Find the adapter and the learning rate for a model and data, and train and save the winner.

    Args:
        model: A folder, a hub id, or a model of transformers in memory.
        train: Training rows: a file or folder, a list of rows, a DataFrame, or a `datasets.Dataset`.
        tokenizer: Tokenizer of a model in memory.
        eval: Rows to validate and test on; cut from `train` if None.
        ood: Rows of another domain, scored too.
        keep: Rows that must not be forgotten; built-in text for language models if None.
        contestants: Names of adapters; a shortlist if None.
        time: Time that the study may take: `90s`, `30m`, `2h`.
        budget: Trained parameters: a number, or text such as `0.5%` or `20k`; those of a LoRA of rank 8 if None.
        seeds: Reported runs of each contestant; chosen by the time if None.
        batch: Examples in a training step.
        length: Tokens in an example, at most; chosen by the data if None.
        ranks: Ranks to compare, such as `(4, 16, 64)`.
        targets: Modules to compare, as `attach` takes them, such as `("attention", "all-linear")`; those of one level are
            joined by `+`.
        methods: `all` to compare all methods that fit the model and the budget, in a race.
        metric: Metric of generated answers: `exact_match`, `f1`, `contains`, or `python:FILE.FUNCTION`; none if None.
        max_new_tokens: Tokens of a generated answer, at most; 64 if None.
        trust: True to trust the Python file of `metric`, from now on and as it is.
        out: Folder of the results; `runs/MODEL-DATA` if None.
        workers: Number of worker processes; one for each core or GPU if None.
        run: Runs the planned study, in place of the default.
        watch: Called with what is being done while the study is planned.
        planned: Called with the plan before it runs.
        analysed: Called with the advice before the winner is trained again.

    Returns:
        The recommendation, the analysis, and the saved winner.

    Raises:
        AdapterlabError: If an option, the model or the data cannot be used as given.
    """
    folder = None if out is None else Path(out)
    inputs = (folder or Path("runs")) / "inputs"
    saved = {
        name: Path(save_rows(rows, inputs))
        for name, rows in {"evaluate": eval, "ood": ood, "keep": keep}.items()
        if rows is not None
    }
    request = make_request(
        save_model(model, tokenizer, inputs),
        Path(save_rows(train, inputs)),
        evaluate=saved.get("evaluate"),
        ood=saved.get("ood"),
        keep=saved.get("keep"),
        contestants=_joined(contestants),
        time=time,
        budget=None if budget is None else str(budget),
        seeds=seeds,
        batch=batch,
        length=length,
        ranks=_joined(ranks),
        targets=_joined(targets),
        methods=methods,
        metric=metric,
        max_new_tokens=max_new_tokens,
        trust=trust,
    )
    folder = folder or tuner.default_folder(request.model, request.data.name)
    return tuner.tune(
        request,
        folder,
        Ledger(folder / LEDGER),
        workers,
        run or (lambda prepared, ledger, start: run_study(prepared, ledger, start=start)),
        watch=watch,
        planned=planned,
        analysed=analysed,
    )


def predict_rate(
    method: str,
    model: str | Path | nn.Module,
    train: Rows,
    *,
    tokenizer: Processor | None = None,
    steps: int = 60,
    rank: int | None = None,
    batch: int = 8,
    length: int | None = None,
) -> RatePrediction:
    """Predict the learning rate of an adapter from its gradient and curvature at the start; nothing is trained.

    Args:
        method: Name of the adapter.
        model: A folder, a hub id, or a model of transformers in memory.
        train: Training rows, as for `tune`.
        tokenizer: Tokenizer of a model in memory.
        steps: Training steps that the rate is for.
        rank: Rank of the adapter, if it has one; its default if None.
        batch: Examples in a training step.
        length: Tokens in an example, at most; chosen by the data if None.

    Returns:
        The rate, the range that holds the best one in 90 % of cross-validated cases, and what it was computed from.

    Raises:
        AdapterlabError: If the method, the model or the data cannot be used as given.
    """
    with TemporaryDirectory() as inputs:  # of a model or rows in memory
        source, rows = save_model(model, tokenizer, Path(inputs)), Path(save_rows(train, Path(inputs)))
        request = make_rate_request(method, source, rows, steps=steps, rank=rank, batch=batch, length=length)
        return rate.predict_rate(request)


def _joined(names: Sequence[object] | str | None) -> str | None:
    return names if names is None or isinstance(names, str) else ",".join(map(str, names))


def _with_inputs(
    study: Study,
    folder: Path,
    model: str | Path | nn.Module | None,
    tokenizer: Processor | None,
    data: Mapping[str, Rows | Mapping[str, Rows]] | None,
) -> Study:
    """Return the study with a model and data that the caller gave in place of its own."""
    if model is not None and study.sweep.models is not None:
        raise AdapterlabError(f"study {study.name} sweeps models: give no other model, or take sweep.models out")
    if model is not None:
        study = study.model_copy(update={"model": save_model(model, tokenizer, folder)})
    if not data:
        return study
    entries = {entry.name: entry for entry in study.data}
    for name, rows in data.items():
        if name not in study.tasks:
            raise UnknownNameError("task", name, study.tasks, where=f"the data of study {study.name}")
        parts = rows if isinstance(rows, Mapping) else {"train": rows}
        if unknown := set(parts) - {"train", "eval", "ood", "keep"}:
            raise AdapterlabError(
                f"data[{name!r}] has unknown keys {', '.join(sorted(unknown))}: give train, eval, ood or keep"
            )
        if "train" not in parts:
            raise AdapterlabError(f"data[{name!r}] has no training rows: give train")
        saved = {part: save_rows(found, folder) for part, found in parts.items()}
        scored = {} if name not in entries else entries[name].model_dump(include={"metric", "max_new_tokens"})
        try:
            entries[name] = Data.model_validate({"name": name, **saved, **scored})
        except ValidationError as error:
            raise AdapterlabError(f"data[{name!r}]: a task's name has letters, digits, - and _ alone") from error
    return study.model_copy(update={"data": tuple(entries.values())})
