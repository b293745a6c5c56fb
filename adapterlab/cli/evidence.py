"""Commands on results of other studies: evidence, evidence compare, add, carry, tuning.

>>> from typer.testing import CliRunner
>>> from adapterlab.cli import app
>>> str(CliRunner().invoke(app, ["evidence", "compare", "pisa", "lora"]).exception)
"unknown method 'pisa': did you mean pissa, ia3, miss?"
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from adapterlab.evidence.cells import Cell
    from adapterlab.evidence.store import Store

app = typer.Typer(invoke_without_command=True)
Folder = Annotated[
    Path, typer.Option("--store", metavar="FOLDER", help="Folder with your own tables, besides those of the package.")
]
FOLDER = Path("evidence")


@app.callback()
def _evidence(context: typer.Context, store: Folder = FOLDER) -> None:
    """Results of other studies: list the tables, pool them, add your own."""
    if context.invoked_subcommand is not None:
        return
    from rich.console import Console

    from adapterlab.report.evidence import show_tables

    show_tables(_store(store).tables, Console())


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="A method of the tables.", show_default=False)],
    second: Annotated[str, typer.Argument(help="Another one.", show_default=False)],
    metric: Annotated[str, typer.Option(help="Metric: in_domain, out_of_domain or forgetting.")] = "in_domain",
    store: Folder = FOLDER,
) -> None:
    """Pool the published differences of two methods: a random-effects meta-analysis."""
    from rich.console import Console

    from adapterlab.errors import AdapterlabError, UnknownNameError
    from adapterlab.report.evidence import show_evidence
    from adapterlab.verdict.claims import Better
    from adapterlab.verdict.other_evidence import other_evidence

    cells = [cell for cell in _cells(_store(store)) if cell.metric == metric]
    if not cells:
        known = {cell.metric for cell in _cells(_store(store))}
        raise UnknownNameError("metric", metric, known, where="the tables")
    methods = {method for cell in cells for method in cell.worked}
    for name in (first, second):
        if name not in methods:
            raise UnknownNameError("method", name, methods)
    if first == second:
        raise AdapterlabError(f"{first} is compared with itself: give two methods")
    tasks = tuple(dict.fromkeys(cell.task for cell in cells if {first, second} <= set(cell.worked))) or ("none",)
    test = Better.model_validate({"better": first, "than": second, "in": metric, "on": tasks})
    show_evidence(first, second, metric, other_evidence(test, cells), Console())


@app.command()
def add(
    results: Annotated[
        str, typer.Argument(help="CSV file, or a study whose results are there: its file, name or folder.")
    ],
    store: Folder = FOLDER,
) -> None:
    """Add a table of results, or the results of a finished study, to your folder of tables."""
    from adapterlab import api
    from adapterlab.evidence.table import read_table
    from adapterlab.names import printable

    table = read_table(Path(results)) if results.endswith(".csv") else api.evidence_of(results)
    file = _store(store).add(table)
    print(printable(f"{len(table.scores):,} rows of {', '.join(table.sources)}: {file}"))
    print(printable(f"To use them: adapterlab run STUDY --evidence {file.parent}"))


@app.command()
def carry(
    metric: Annotated[str, typer.Option(help="Metric: in_domain or forgetting.")] = "in_domain",
    rival: Annotated[str, typer.Option(help="Method that the others are compared with in the predictions.")] = "lora",
    store: Folder = FOLDER,
) -> None:
    """Fit how differences between methods carry between model sizes, and predict each model from the others."""
    from rich.console import Console

    from adapterlab.errors import AdapterlabError
    from adapterlab.evidence.fit_carry import fit_carry, predict_held_out
    from adapterlab.report.evidence import show_carry

    console = Console()
    cells = [cell for cell in _cells(_store(store)) if cell.metric == metric]
    if len({cell.model for cell in cells if len(cell.worked) > 1}) < 2:
        raise AdapterlabError(
            f"the tables compare methods by {metric} with fewer than two models: add results of another"
        )
    with console.status("fitting"):
        fit, predictions = fit_carry(cells), predict_held_out(cells, rival)
    show_carry(fit, predictions, console)


@app.command()
def tuning(store: Folder = FOLDER) -> None:
    """Show what methods lose at a learning rate that was tuned for another one."""
    from rich.console import Console

    from adapterlab.evidence.tuning import tuning_loss
    from adapterlab.report.evidence import show_tuning

    show_tuning(tuning_loss(_cells(_store(store))), Console())


def _store(folder: Path) -> Store:
    from adapterlab.evidence.store import Store

    return Store(folder)


def _cells(store: Store) -> list[Cell]:
    from adapterlab.evidence.cells import cells_of

    return cells_of(store.scores)
