"""Results of geometry as a file of strict JSON, in which numbers that are not finite are text.

>>> from tempfile import mkdtemp
>>> file = Path(mkdtemp()) / "geometry.json"
>>> result = GeometryResult("base", "tuned", (), scores={"ood": (1.0, float("inf"))})
>>> write_result(result, file)
>>> read_result(file) == result
True
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from adapterlab.errors import AdapterlabError
from adapterlab.files import write_text
from adapterlab.geometry.result import GeometryResult

DIGITS = 6
"""Significant digits of numbers in the file."""
NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""Text in the file for numbers that JSON does not have."""


def as_text(result: GeometryResult) -> str:
    """Return a result as JSON, with numbers rounded to `DIGITS` significant digits.

    Args:
        result: The result.
    """
    return json.dumps(_strict(result.to_json()), indent=1, allow_nan=False) + "\n"


def write_result(result: GeometryResult, file: Path) -> None:
    """Write a result to a file, whole or not at all.

    Args:
        result: The result.
        file: The file; replaced if it exists.

    Raises:
        AdapterlabError: The file cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, as_text(result))
    except OSError as error:
        raise AdapterlabError(f"cannot write {file} ({error.strerror}): give another --out") from error


def read_result(file: Path) -> GeometryResult:
    """Return the result that a file holds.

    Args:
        file: A file that `write_result` wrote.

    Raises:
        AdapterlabError: The file is missing or damaged.
    """
    try:
        return GeometryResult.from_json(_loose(json.loads(file.read_text("utf-8"))))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise AdapterlabError(f"{file} is no result of geometry ({error}); the file was left as it is") from error


def _strict(data: Any) -> Any:
    match data:
        case dict():
            return {key: _strict(value) for key, value in data.items()}
        case list() | tuple():
            return [_strict(value) for value in data]
        case float() if not math.isfinite(data):
            return next(text for text, value in NOT_FINITE.items() if value == data or math.isnan(data))
        case float():
            return float(f"{data:.{DIGITS}g}")
    return data


def _loose(data: Any) -> Any:
    match data:
        case dict():
            return {key: _loose(value) for key, value in data.items()}
        case list():
            return [_loose(value) for value in data]
        case str() if data in NOT_FINITE:
            return NOT_FINITE[data]
    return data
