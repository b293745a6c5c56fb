"""The program of the child process that runs a user's scorer: `python -P scorer_child.py FILE FUNCTION BYTES`.

It reads one call as JSON from each line of its input, and writes the value or the error as a line of JSON. It imports
nothing of the package, so that it starts in milliseconds. Output of the scorer is dropped.

>>> checked(True), checked(0.5)
({'value': 1.0}, {'value': 0.5})
>>> checked("yes")
{'error': "returned 'yes' (str), which is not a number"}
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import math
import numbers
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

SHOWN = 200
"""Characters of a value or a message that are reported."""


def main() -> None:
    """Answer calls until the input ends."""
    file, function, memory = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(
            1, signal.SIGKILL
        )  # PR_SET_PDEATHSIG: a hanging scorer ends with the process that asked
    calls, answers = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    found = load(file, function)
    answer = found if isinstance(found, dict) else {"value": 0.0}
    while True:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        line = calls.readline()
        if not line or isinstance(found, dict):
            return
        answer = call(found, file, **json.loads(line))


def load(file: str, function: str) -> Callable[..., object] | dict[str, Any]:
    """Return the scorer, or the error that loading it raised.

    Args:
        file: The Python file.
        function: Name of the function in it.
    """
    sys.path.insert(0, str(Path(file).parent))
    try:
        spec = importlib.util.spec_from_file_location(Path(file).stem, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        scorer = getattr(module, function, None)
    except BaseException as error:
        return {"error": f"cannot be loaded: {described(error, file)}"}
    return scorer if callable(scorer) else {"error": f"defines no function {function}"}


def call(scorer: Callable[..., object], file: str, prediction: str, reference: str, row: object) -> dict[str, Any]:
    """Return the value of one call, or its error.

    Args:
        scorer: The function.
        file: Its file.
        prediction: The generated answer.
        reference: The right answer.
        row: The whole row.
    """
    try:
        return checked(scorer(prediction, reference, row))
    except BaseException as error:
        return {"error": f"raised {described(error, file)}"}


def checked(value: object) -> dict[str, Any]:
    """Return what a scorer returned as a number, or why it is none.

    Args:
        value: The returned object.
    """
    if not isinstance(value, numbers.Real):
        return {"error": f"returned {repr(value)[:SHOWN]} ({type(value).__name__}), which is not a number"}
    if not math.isfinite(value):
        return {"error": f"returned {float(value)}, which is not a finite number"}
    return {"value": float(value)}


def described(error: BaseException, file: str) -> str:
    """Return an error in one line, with the last line of the user's file that it passed through.

    Args:
        error: The error.
        file: The user's file.
    """
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    text = " ".join(traceback.format_exception_only(error)[-1].split())[:SHOWN]
    return f"{text} (line {lines[-1]})" if lines else text


if __name__ == "__main__":
    main()
