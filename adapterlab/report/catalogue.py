"""The methods on the terminal: a table of all, a card of one."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import adapterlab
from adapterlab.adapters import adapter as make_adapter
from adapterlab.adapters import all_adapters
from adapterlab.adapters.base import Adapter
from adapterlab.errors import AdapterlabError
from adapterlab.models.loading import load_causal
from adapterlab.surgery import parameter_count

INVARIANTS_TEST = "tests/surgery/test_invariants.py"


def as_json() -> list[dict[str, Any]]:
    """What each method says of itself, as plain data."""
    return [
        {
            "name": name,
            "title": method.title,
            "theme": method.theme.value,
            "paper": method.paper,
            "claim": method.claim,
            "site": method.site,
            "mergeable": method.mergeable,
            "invariants": [str(invariant) for invariant in method().invariants],
            "hyperparameters": _hyperparameters(method),
        }
        for name, method in all_adapters().items()
    ]


def show_all(console: Console) -> None:
    """Print the table, by theme."""
    table = Table(box=None, padding=(0, 1), header_style="dim", pad_edge=False)
    for heading in ("name", "theme"):
        table.add_column(heading, no_wrap=True)
    table.add_column("what it believes")
    for name, method in sorted(all_adapters().items(), key=lambda item: (item[1].theme.value, item[0])):
        table.add_row(f"[bold]{name}[/bold]", method.theme.value, method.claim)
    console.print(table)


def explain(name: str, model_source: str, console: Console) -> None:
    """Print one method's card: formula, belief, what it preserves and how that is held, cost, where its code is."""
    method = type(make_adapter(name))
    model = load_causal(model_source).model
    whole = sum(p.numel() for p in model.parameters())
    settings = ", ".join(f"{key} = {value!r}" for key, value in _hyperparameters(method).items()) or "none"
    console.print(f"[bold]{name}[/bold]: {method.title}", highlight=False)
    console.print(f"[italic]{method.claim}[/italic]\n", highlight=False)
    for paragraph in inspect.cleandoc(method.__doc__ or "").split("\n\n"):
        console.print(" ".join(paragraph.split()), markup=False, highlight=False)
    console.print("\n[dim]preserves[/dim]")
    for invariant in method().invariants:
        console.print(f"  {invariant}", markup=False, highlight=False)
    console.print(f"  [dim]held to it, after training on real text, by {INVARIANTS_TEST}[/dim]")
    rows = {
        "settings": settings,
        "size": f"set by {method.size_knob}" if method.size_knob else "has none to set",
        "adapts": method.site + ("" if method.mergeable else "; cannot be merged into weights"),
        "costs": _cost(method(), model, whole, model_source),
        "paper": method.paper,
        "code": _code(method),
    }
    console.print()
    grid = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for key, value in rows.items():
        grid.add_row(key, value)
    console.print(grid)


def _cost(adapter: Adapter, model: Any, whole: int, source: str) -> str:
    try:
        count = parameter_count(model, adapter)
    except AdapterlabError as error:
        return f"does not fit the {source} model with these settings: {error}"
    return f"{count:,} trained parameters on the {source} model, {count / whole:.2%} of its {whole:,}"


def _hyperparameters(method: type[Adapter]) -> dict[str, Any]:
    return {f.name: f.default for f in dataclasses.fields(method)}


def _code(method: type[Adapter]) -> str:
    file = Path(inspect.getfile(method))
    root = Path(adapterlab.__file__).parent.parent
    return str(file.relative_to(root)) if file.is_relative_to(root) else str(file)
