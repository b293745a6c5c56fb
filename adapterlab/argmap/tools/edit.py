"""Replacement of numbers in the text of a map, with every other byte unchanged.

>>> with_credences("[Rain]: It rains. {credence: 0.8}", {"Rain": 0.4})
'[Rain]: It rains. {credence: 0.4}'
"""

from __future__ import annotations

from collections.abc import Mapping

from adapterlab.argmap.model.map import Map
from adapterlab.argmap.scoring.network import parameter
from adapterlab.argmap.syntax.diagnostics import Source
from adapterlab.argmap.syntax.metadata import scalar_span
from adapterlab.errors import AdapterlabError


def with_credences(text: str, credences: Mapping[str, float], name: str = "<map>") -> str:
    """Replace numbers in the text of a map.

    Args:
        text: A map in Argdown.
        credences: New numbers in [0, 1] by title: a claim's `credence:` (a thesis' `prior:`), or the `inference:` of an
            argument's last step.
        name: Name of the map in messages.

    Returns:
        The text with the new numbers.

    Raises:
        AdapterlabError: A title is unknown or has no number to replace, or a number is outside [0, 1].
    """
    from adapterlab.argmap.model.build import parse

    return edited_files(parse(text, name), credences).get(name, text)


def edited_files(the_map: Map, credences: Mapping[str, float]) -> dict[str, str]:
    """Replace numbers in the files of a map.

    Args:
        the_map: The map.
        credences: As in `with_credences`.

    Returns:
        The new text of each file that changes, by name: the map's own and those that it includes.

    Raises:
        AdapterlabError: As in `with_credences`.
    """
    name, edits = the_map.source.name, list[tuple[Source, int, int, float]]()
    for title, value in credences.items():
        if not 0.0 <= value <= 1.0:
            raise AdapterlabError(f"{title}: a credence must be between 0 and 1, not {value:g}")
        key = parameter(the_map, title)
        spans = _claim_spans(the_map, key[1:-1]) if key.startswith("[") else _inference_spans(the_map, key[1:-1])
        if not spans:
            wanted = "credence" if key.startswith("[") else "inference"
            raise AdapterlabError(f"{name}: {key} has no {wanted} to replace; write {{{wanted}: 0.5}} first")
        for start, end in spans:
            source, at = the_map.source.origin(start)
            edits.append((source, at, at + end - start, value))
    files: dict[str, str] = {}
    for source, start, end, value in sorted(edits, key=lambda edit: edit[1], reverse=True):
        text = files.get(source.name, source.text)
        files[source.name] = text[:start] + _decimal(value, text[start:end]) + text[end:]
    return files


def _claim_spans(the_map: Map, title: str) -> list[tuple[int, int]]:
    claim = the_map.claims[title]
    for key in ("prior", "credence") if claim.role == "thesis" else ("credence", "prior"):
        blocks = [(m.data_start, m.data_end) for m in claim.mentions if key in m.data]
        if blocks:
            return _spans(the_map, blocks, key)
    return []


def _inference_spans(the_map: Map, title: str) -> list[tuple[int, int]]:
    argument = the_map.arguments[title]
    if not argument.steps:
        return _spans(
            the_map, [(m.data_start, m.data_end) for m in argument.mentions if "credence" in m.data], "credence"
        )
    step = argument.steps[-1]
    inside = [m for m in the_map.claims[step.conclusion].mentions if m.argument == title and "inference" in m.data]
    if inside:
        return _spans(the_map, [(m.data_start, m.data_end) for m in inside], "inference")
    key = "inference" if "inference" in step.data else "credence"
    return _spans(the_map, [(step.data_start, step.data_end)], key) if key in step.data else []


def _spans(the_map: Map, blocks: list[tuple[int, int]], key: str) -> list[tuple[int, int]]:
    found = []
    for start, end in blocks:
        span = scalar_span(the_map.source.text[start:end], key)
        if span:
            found.append((start + span[0], start + span[1]))
    return found


def _decimal(value: float, before: str) -> str:
    """Return a number with at least as many decimals as the text that it replaces, and at most four."""
    decimals = len(before.partition(".")[2])
    text = f"{value:.4f}".rstrip("0")
    short = len(text.partition(".")[2])
    return f"{value:.{max(short, min(decimals, 4), 1)}f}"
