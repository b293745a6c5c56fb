"""Replacement of numbers in the text of a map, with every other byte unchanged.

>>> with_credences("[Rain]: It rains. {credence: 0.8}", {"Rain": 0.4})
'[Rain]: It rains. {credence: 0.4}'
"""

from __future__ import annotations

from collections.abc import Mapping

from adapterlab.argmap.model.map import Map
from adapterlab.argmap.scoring.arrows import Arrow, arrows_of, number_name
from adapterlab.argmap.scoring.predicted import RATES, key_of
from adapterlab.argmap.syntax.diagnostics import Source
from adapterlab.argmap.syntax.metadata import scalar_span
from adapterlab.errors import AdapterlabError


def with_credences(text: str, credences: Mapping[str, float], name: str = "<map>") -> str:
    """Replace numbers in the text of a map.

    Args:
        text: A map in Argdown.
        credences: New numbers in [0, 1] by title: a claim's `credence:` (a thesis' `prior:`), the `inference:` of an
            argument's last step, or by `[A] if [B]` and `[A] if not [B]` one of the two of `predicted:`.
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
    edits: list[tuple[Source, int, int, float]] = []
    for title, value in credences.items():
        if not 0.0 <= value <= 1.0:
            raise AdapterlabError(f"{title}: a credence must be between 0 and 1, not {value:g}")
        for start, end in _places(the_map, title):
            source, at = the_map.source.origin(start)
            edits.append((source, at, at + end - start, value))
    files: dict[str, str] = {}
    for source, start, end, value in sorted(edits, key=lambda edit: edit[1], reverse=True):
        text = files.get(source.name, source.text)
        files[source.name] = text[:start] + _decimal(value, text[start:end]) + text[end:]
    return files


def _places(the_map: Map, title: str) -> list[tuple[int, int]]:
    """Return the places in the text of the number with a title."""
    key = number_name(the_map, title)
    if " if " in title and title not in the_map.claims:
        wanted, example = RATES, "[0.8, 0.4]"
        found = ((arrow, i) for arrow in arrows_of(the_map) for i, number in enumerate(arrow.names) if number == key)
        spans = [span for arrow, i in found for span in _predicted_spans(the_map, arrow, i)]
    else:
        of_claim = key.startswith("[")
        wanted, example = "credence" if of_claim else "inference", "0.5"
        spans = _claim_spans(the_map, key[1:-1]) if of_claim else _inference_spans(the_map, key[1:-1])
    if not spans:
        raise AdapterlabError(
            f"{the_map.source.name}: {key} has no {wanted} to replace; write {{{wanted}: {example}}} first"
        )
    return spans


def _predicted_spans(the_map: Map, arrow: Arrow, index: int) -> list[tuple[int, int]]:
    found = []
    for mention in the_map.element(arrow.child).mentions:
        stated = mention.data.get(RATES)
        within = key_of(stated, arrow) if isinstance(stated, dict) else None
        path = (RATES, index) if within is None else (RATES, within, index)
        if RATES in mention.data and (within is not None or not isinstance(stated, dict)):
            found += _spans(the_map, [(mention.data_start, mention.data_end)], *path)
    return found


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


def _spans(the_map: Map, blocks: list[tuple[int, int]], *path: str | int) -> list[tuple[int, int]]:
    found = []
    for start, end in blocks:
        span = scalar_span(the_map.source.text[start:end], *path)
        if span:
            found.append((start + span[0], start + span[1]))
    return found


def _decimal(value: float, before: str) -> str:
    """Return a number with at least as many decimals as the text that it replaces, and at most four."""
    decimals = len(before.partition(".")[2])
    text = f"{value:.4f}".rstrip("0")
    short = len(text.partition(".")[2])
    return f"{value:.{max(short, min(decimals, 4), 1)}f}"
