"""Share of a study's time that is spent on scoring, by method, and beside another checkout of the code.

    python -m benchmarks.scoring                            # this code
    python -m benchmarks.scoring --beside ../older          # and that of another folder, trial by trial in turns

For each method one trial of the learning-rate search and one reported trial of a study are run in a process of its own for
each checkout. Both processes measure CPU seconds, so that other programs on the machine do not count. What is not training
and not attaching counts as scoring. The share is that of a whole contest: all trials of its search and all reported runs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).resolve().parent.parent
COLUMNS = ("search_train", "search_score", "report_train", "report_score")


def serve(study_file: Path) -> None:
    """Run the trials that the parent process names, and print the CPU seconds of each; imports only what old code has too.

    Args:
        study_file: The study.
    """
    time.monotonic = time.process_time  # type: ignore[assignment]
    import torch

    from adapterlab.lab.run.prepare import prepare
    from adapterlab.lab.study.load import load_study
    from adapterlab.lab.trial.runner import Runner

    torch.set_num_threads(1)
    prepared = prepare(load_study(study_file))
    study, runner = prepared.study, Runner()
    contests = {(c.contestant, c.task): c for c in prepared.contests()}

    def measured(name: str, task: str, seed: int, steps: int, reported: bool) -> tuple[float, float]:
        trial = contests[name, task].trial(1e-3, seed, steps, reported=reported)
        started = time.process_time()
        outcome = runner.run(trial)
        total = time.process_time() - started
        return outcome.seconds + outcome.attach_seconds, total - outcome.seconds - outcome.attach_seconds

    for line in sys.stdin:
        name, task, seed = json.loads(line)
        search = measured(name, task, seed, study.tuning.first_steps, False)
        report = measured(name, task, seed, study.training.steps, True)
        print(json.dumps(dict(zip(COLUMNS, (*search, *report), strict=True))), flush=True)


class Checkout:
    """A process that runs trials with the code of one folder.

    Args:
        folder: The folder of the code.
        study_file: The study.
    """

    def __init__(self, folder: Path, study_file: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), "--serve", str(study_file)],
            env={**os.environ, "PYTHONPATH": str(folder)},
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, name: str, task: str, seed: int) -> dict[str, float]:
        """Return the CPU seconds of training and scoring in a trial of the search and in a reported one.

        Args:
            name: The contestant.
            task: The task.
            seed: Seed of both trials.
        """
        sent, received = self._pipes()
        sent.write(json.dumps([name, task, seed]) + "\n")
        sent.flush()
        found: dict[str, float] = json.loads(received.readline())
        return found

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout

    def close(self) -> None:
        """End the process."""
        self._pipes()[0].close()
        self._process.wait()


def share(seconds: Mapping[str, float], searches: int, reports: int) -> float:
    """Return the share of a contest's time that is spent on scoring.

    Args:
        seconds: CPU seconds by the names in `COLUMNS`.
        searches: Trials of the search.
        reports: Reported runs.
    """
    scoring = searches * seconds["search_score"] + reports * seconds["report_score"]
    return scoring / (scoring + searches * seconds["search_train"] + reports * seconds["report_train"])


def medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of each column.

    Args:
        runs: CPU seconds of each round.
    """
    return {column: statistics.median(run[column] for run in runs) for column in COLUMNS}


def lines(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the result as a Markdown table.

    Args:
        found: By checkout and method, the seconds and the share.
    """
    sides = list(found)
    yield "| method | " + " | ".join(f"train, {s} | score, {s} | share, {s}" for s in sides) + " |"
    yield "|---|" + "--:|--:|--:|" * len(sides)
    for name in found[sides[0]]:
        rows = [found[side][name] for side in sides]
        cells = [f"{row['report_train']:.1f} s | {row['report_score']:.1f} s | {row['share']:.0%}" for row in rows]
        yield f"| {name} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=HERE / "studies" / "quick.toml")
    parser.add_argument("--beside", type=Path, help="folder of another checkout")
    parser.add_argument("--methods", nargs="*", help="contestants of the study; by default all")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each method")
    parser.add_argument("--out", type=Path, help="JSON file for the result")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve(options.serve)
        return

    from adapterlab.lab.study.load import load_study

    study = load_study(options.study)
    folders = {"before": options.beside.resolve(), "after": HERE} if options.beside else {"now": HERE}
    checkouts = {side: Checkout(folder, options.study.resolve()) for side, folder in folders.items()}
    searches, reports = study.tuning.rates + study.tuning.keep, study.report.runs
    names = options.methods or [entry.name for entry in study.entrants]
    runs: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    for side in checkouts.values():  # what is slow only the first time
        side.run(names[0], study.tasks[0], 0)
    for turn in range(options.rounds):
        for name in names:
            task = study.tasks[turn % len(study.tasks)]
            for side in sorted(checkouts, reverse=bool(turn % 2)):
                runs[side, name].append(checkouts[side].run(name, task, turn))
            print(turn, name, {side: runs[side, name][-1] for side in checkouts}, file=sys.stderr, flush=True)
    for checkout in checkouts.values():
        checkout.close()
    found: dict[str, dict[str, dict[str, float]]] = {side: {} for side in checkouts}
    for (side, name), measured in runs.items():
        middle = medians(measured)
        found[side][name] = {**middle, "share": share(middle, searches, reports)}
    for side, by_name in found.items():
        totals = medians([{c: sum(s[c] for s in by_name.values()) for c in COLUMNS}])
        found[side]["all"] = {**totals, "share": share(totals, searches, reports)}
    print("\n".join(lines(found)))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
