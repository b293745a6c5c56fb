"""The command `report`: write the report from a study's results, or show it while the study runs.

>>> from typer.testing import CliRunner
>>> from adapterlab.cli import app
>>> str(CliRunner().invoke(app, ["report", "qick"]).exception)
"unknown study 'qick': did you mean quick?"
"""

from __future__ import annotations

import io
import json
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from adapterlab.cli.options import EvidenceOption, LockOption, MapOption, RelevanceOption
from adapterlab.cli.studies import exit_if_incomplete
from adapterlab.errors import AdapterlabError
from adapterlab.files import write_text

if TYPE_CHECKING:
    from adapterlab.verdict.from_ledger import FinishedPart
    from adapterlab.verdict.stored_results import StoredResults

STDOUT = Path("-")
LOOK = 0.5
"""Seconds between two looks at the ledger."""
REST = 4.0
"""Time between two reports, as a multiple of the time that a report takes: the trials need the processor."""


class ReportFormat(StrEnum):
    """Format of a report."""

    HTML = "html"
    MARKDOWN = "md"
    METHOD_COMPARISON = "method-comparison"


def report(
    study: Annotated[
        str | None,
        typer.Argument(
            metavar="[STUDY]", help="File or name of a study, or the folder of its results.", show_default="quick"
        ),
    ] = None,
    form: Annotated[
        ReportFormat,
        typer.Option(
            "--format",
            help="html: one page. md: for a pull request. method-comparison: JSON for the benchmark in PEFT's repository.",
        ),
    ] = ReportFormat.HTML,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|-",
            help="File to write, a folder for method-comparison, or - to print; beside the results if not given.",
            show_default=False,
        ),
    ] = None,
    map_file: MapOption = None,
    lock: LockOption = None,
    evidence: EvidenceOption = None,
    relevance: RelevanceOption = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Show the report in a browser while the study runs, on this machine only.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port for --serve; a free one if 0.")] = 0,
) -> None:
    """Write the report of a study from its results, without training; --serve follows a run."""
    from rich.console import Console

    from adapterlab.report.markdown import to_markdown
    from adapterlab.report.page import report_text
    from adapterlab.report.plain import plain
    from adapterlab.verdict.stored_results import StoredResults

    if serve and (form is not ReportFormat.HTML or out is not None):
        raise AdapterlabError("--serve writes nothing: leave out --format and --out, or --serve")
    results = StoredResults.open(study, None, map_file, evidence, relevance, lock)
    if serve:
        _serve(results, port)
        return
    found = results.require()
    console = Console(stderr=True)
    if found.remark:
        console.print(plain(found.remark), highlight=False, soft_wrap=True)
    if form is ReportFormat.METHOD_COMPARISON:
        _write_method_comparison(results, found, out)
        return
    analysis = results.analyse(found)
    if form is ReportFormat.MARKDOWN:
        _write_text(to_markdown(analysis), out or results.folder / "report.md")
    else:
        _write_text(report_text(analysis), out or results.folder / "report.html")
    exit_if_incomplete(analysis.is_incomplete, results.folder, console)


def _write_text(text: str, out: Path) -> None:
    if out == STDOUT:
        print(text, end="")
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, text)
    except OSError as error:
        raise AdapterlabError(f"cannot write {out}: {error.strerror or error}") from error
    print(out)


def _write_method_comparison(results: StoredResults, found: FinishedPart, out: Path | None) -> None:
    from adapterlab.report.method_comparison import result_files, write_results

    files = result_files(found, results.ledger)
    if out == STDOUT:
        print(json.dumps([file.content for file in files], indent=2))
        return
    folder = out or results.folder / "method-comparison"
    try:
        write_results(files, folder)
    except OSError as error:
        raise AdapterlabError(f"cannot write {folder}: {error.strerror or error}") from error
    print(f"{len(files)} files in {folder}, one folder for each task")


def _serve(results: StoredResults, port: int) -> None:
    """Serve the report until the program is stopped."""
    from adapterlab.report.live import serving

    follower = Follower(results)
    try:
        with serving(follower.page, port) as address:
            follower.look()
            print(f"Following {results.folder} at {address} (Ctrl-C ends this)", flush=True)
            follower.follow()
    except KeyboardInterrupt:
        print("\nStopped following; the study is not touched.")


class Follower:
    """Keeps a page up to date with the results of a study.

    Args:
        results: The results.
    """

    def __init__(self, results: StoredResults) -> None:
        from adapterlab.report.live import LivePage

        self.results = results
        self.page = LivePage(results.prepared.study.title or results.prepared.study.name)
        self._used: frozenset[str] | None = None
        self._report = ""

    def follow(self) -> NoReturn:
        """Look whenever another process has written to the ledger, or a run has begun or ended."""
        seen = self.results.mark()
        while True:
            time.sleep(LOOK)
            if (mark := self.results.mark()) != seen:
                seen, started = mark, time.monotonic()
                self.look()
                time.sleep(REST * (time.monotonic() - started))

    def look(self) -> None:
        """Show the results as they are now; the report is made again only if it has other trials."""
        from rich.console import Console

        from adapterlab.report.page import report_text
        from adapterlab.report.progress import in_a_line, show_status

        status, found = self.results.status(), self.results.read()
        if found is None:
            text = io.StringIO()
            show_status(status, Console(file=text, width=100, color_system=None))
            self.page.show_progress(text.getvalue(), in_a_line(status))
            return
        used = frozenset(trial.id for contest in found.contests for trial in contest.trials)
        if used != self._used:
            self._report, self._used = report_text(self.results.analyse(found)), used
        self.page.show(self._report, in_a_line(status), finished=status.finished)
