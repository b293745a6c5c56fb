"""Commands that describe adapters: adapters, explain.

>>> from typer.testing import CliRunner
>>> from adapterlab.cli import app
>>> CliRunner().invoke(app, ["adapters"]).stdout.splitlines()[0].split()
['name', 'theme', 'hypothesis']
"""

from __future__ import annotations

from typing import Annotated

import typer


def adapters(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with hyperparameters and invariants.")] = False,
) -> None:
    """List the adapters, each with its hypothesis about transformers."""
    import json

    from rich.console import Console

    from adapterlab.report import catalogue

    if as_json:
        print(json.dumps(catalogue.as_json(), indent=1))
    else:
        catalogue.show_all(Console())


def explain(
    name: Annotated[str, typer.Argument(help="Name of an adapter.", show_default=False)],
    model: Annotated[
        str, typer.Option(help="Model that parameters are counted on: a folder or a hub id.")
    ] = "embedded",
) -> None:
    """Show one adapter: formula, hypothesis, what it preserves, cost, and code."""
    from rich.console import Console

    from adapterlab.report import catalogue

    catalogue.show_card(catalogue.make_card(name, model), Console())
