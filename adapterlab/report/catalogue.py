"""Descriptions of the adapters on the terminal: a table of all, or a card of one.

>>> card = make_card("ia3")
>>> card.name, card.theme
('ia3', 'gain')
"""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from torch import nn

from adapterlab.adapters import adapter as make_adapter
from adapterlab.adapters import all_adapters
from adapterlab.adapters.base import Adapter
from adapterlab.adapters.peft_method import PeftAdapter
from adapterlab.errors import AdapterlabError
from adapterlab.models.loading import load_causal
from adapterlab.report.plain import add_plain_row, plain
from adapterlab.resources import PACKAGE
from adapterlab.surgery import parameter_count

INVARIANTS_TEST = "tests/surgery/test_invariants.py"
"""Test that checks the invariants of every method."""


@dataclass(frozen=True)
class AdapterCard:
    """One method, described for a reader."""

    name: str
    title: str
    theme: str
    """Group of methods with a common idea."""
    claim: str
    """Hypothesis about transformers that the method embodies."""
    description: tuple[str, ...]
    """Paragraphs of the method's docstring: its formula, shapes and source."""
    invariants: tuple[str, ...]
    """Properties of the model that training preserves."""
    facts: dict[str, str]
    """Settings, size, site, cost, paper and code, by heading."""


def as_json() -> list[dict[str, object]]:
    """Return every method as plain data: claim, theme, paper, invariants, hyperparameters."""
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
    """Print all methods, by theme.

    Args:
        console: Where to print.
    """
    table = Table(box=None, padding=(0, 1), header_style="dim", pad_edge=False)
    for heading in ("name", "theme"):
        table.add_column(heading, no_wrap=True)
    table.add_column("hypothesis")
    for name, method in sorted(all_adapters().items(), key=lambda item: (item[1].theme.value, item[0])):
        table.add_row(f"[bold]{plain(name)}[/bold]", method.theme.value, plain(method.claim))
    console.print(table)


def make_card(name: str, model_source: str = "embedded") -> AdapterCard:
    """Describe one method.

    Args:
        name: Name of the method.
        model_source: Model that trained parameters are counted on: `embedded`, a folder or a hub id.

    Returns:
        The card.

    Raises:
        UnknownNameError: If there is no such method.
        AdapterlabError: If the model cannot be loaded, or the method is one of PEFT's.
    """
    method = type(make_adapter(name))
    if issubclass(method, PeftAdapter):
        raise AdapterlabError(f"{name} is a method of PEFT, whose page describes it: {method.paper}")
    model = load_causal(model_source).model
    paragraphs = inspect.cleandoc(method.__doc__ or "").split("\n\n")
    return AdapterCard(
        name,
        method.title,
        method.theme.value,
        method.claim,
        tuple(" ".join(p.split()) for p in paragraphs if not p.lstrip().startswith(">>>")),
        tuple(str(invariant) for invariant in method().invariants),
        {
            "settings": ", ".join(f"{key} = {value!r}" for key, value in _hyperparameters(method).items()) or "none",
            "size": f"set by {method.size_knob}" if method.size_knob else "fixed",
            "adapts": method.site + ("" if method.mergeable else "; cannot be merged into weights"),
            "costs": _cost(method(), model, model_source),
            "paper": method.paper,
            "code": _code(method),
        },
    )


def show_card(card: AdapterCard, console: Console) -> None:
    """Print one method's card.

    Args:
        card: The card.
        console: Where to print.
    """
    console.print(f"[bold]{plain(card.name)}[/bold]: {plain(card.title)}", highlight=False)
    console.print(f"[italic]{plain(card.claim)}[/italic]\n", highlight=False)
    for paragraph in card.description:
        console.print(plain(paragraph), highlight=False)
    console.print("\n[dim]preserves[/dim]")
    for invariant in card.invariants:
        console.print(plain(f"  {invariant}"), highlight=False)
    console.print(f"  [dim]checked after training on real text, by {INVARIANTS_TEST}[/dim]\n")
    grid = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for key, value in card.facts.items():
        add_plain_row(grid, key, value)
    console.print(grid)


def _cost(adapter: Adapter, model: nn.Module, source: str) -> str:
    whole = sum(p.numel() for p in model.parameters())
    try:
        count = parameter_count(model, adapter)
    except AdapterlabError as error:
        return f"does not fit the {source} model with these settings: {error}"
    return f"{count:,} trained parameters on the {source} model, {count / whole:.2%} of its {whole:,}"


def _hyperparameters(method: type[Adapter]) -> dict[str, object]:
    return {f.name: f.default for f in dataclasses.fields(method)}


def _code(method: type[Adapter]) -> str:
    file = Path(inspect.getfile(method))
    root = PACKAGE.parent
    return str(file.relative_to(root)) if file.is_relative_to(root) else str(file)
