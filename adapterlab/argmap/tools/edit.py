"""Writing numbers back into a map, with every other byte as it was."""

from __future__ import annotations

from collections.abc import Mapping

from adapterlab.argmap.model.map import Map
from adapterlab.argmap.scoring.network import parameter
from adapterlab.argmap.syntax.metadata import scalar_span
from adapterlab.errors import AdapterlabError


def with_credences(text: str, credences: Mapping[str, float], name: str = "<map>") -> str:
    """The text with other credences.

    Args:
        text: a map.
        credences: new numbers by title: a claim's `credence:` (a thesis' `prior:`), an argument's `inference:`.
        name: what messages call the map.

    Raises:
        AdapterlabError: where a title is unknown, or states no number that could be replaced.
    """
    from adapterlab.argmap.model.build import parse

    the_map = parse(text, name)
    edits: list[tuple[int, int, float]] = []
    for title, value in credences.items():
        if not 0.0 <= value <= 1.0:
            raise AdapterlabError(f"{title}: a credence lies between 0 and 1, not at {value:g}")
        key = parameter(the_map, title)
        spans = _claim_spans(the_map, key[1:-1]) if key.startswith("[") else _inference_spans(the_map, key[1:-1])
        if not spans:
            wanted = "credence" if key.startswith("[") else "inference"
            raise AdapterlabError(
                f"{name}: {key} states no {wanted} that could be replaced; write {{{wanted}: 0.5}} first"
            )
        edits.extend((start, end, value) for start, end in spans)
    for start, end, value in sorted(edits, reverse=True):
        text = text[:start] + _written(value, text[start:end]) + text[end:]
    return text


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


def _written(value: float, before: str) -> str:
    decimals = len(before.partition(".")[2])
    text = f"{value:.4f}".rstrip("0")
    short = len(text.partition(".")[2])
    return f"{value:.{max(short, min(decimals, 4), 1)}f}"
