r"""A user's function that scores answers, run in a child process with limits on its time and memory.

The function is `score(prediction: str, reference: str, row: dict) -> float`; `row` is the row of the data with all its
columns. Higher is better. What it prints is dropped.

>>> import tempfile
>>> with tempfile.TemporaryDirectory() as folder:
...     file = Path(folder) / "mine.py"
...     _ = file.write_text("def score(prediction, reference, row):\n    return len(prediction) / row['most']\n")
...     with running(Scorer(str(file), "score")) as score:
...         score(Call("four", "4", {"most": 8}, "rows.jsonl:1"))
0.5
"""

from __future__ import annotations

import ast
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from adapterlab.errors import AdapterlabError, ScorerError
from adapterlab.tasks.answer_metrics import BUILT_IN, Scorer
from adapterlab.tasks.base import Question

START_SECONDS = 60.0
"""Seconds that the child process may take to import the scorer."""
CALL_SECONDS = 10.0
"""Seconds that one call may take."""
MEMORY = 4 << 30
"""Bytes that the child process may allocate."""
_CHILD = Path(__file__).with_name("scorer_child.py")


class Call(NamedTuple):
    """One answer to be scored."""

    prediction: str
    reference: str
    row: Mapping[str, Any]
    place: str
    """File and line of the row, for error messages."""


def check_scorer(scorer: Scorer | None) -> None:
    """Check that a scorer's file is Python and defines the function, without running it.

    Args:
        scorer: The user's scorer; None for a metric of the package, which needs no check.

    Raises:
        AdapterlabError: If the file cannot be read, is not Python, or defines no such function.
    """
    if scorer is None:
        return
    try:
        tree = ast.parse(Path(scorer.file).read_bytes())
    except OSError as error:
        raise AdapterlabError(
            f"metric {scorer.name}: {scorer.file} cannot be read ({error.strerror}): name a Python file beside the study, "
            "or in the present folder"
        ) from error
    except (SyntaxError, ValueError, RecursionError) as error:
        raise AdapterlabError(f"metric {scorer.name}: {scorer.file} is not Python: {error}") from error
    defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    others = {name.id for node in ast.walk(tree) if isinstance(node, ast.Assign) for name in _names(node)}
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    others |= {alias.asname or alias.name for node in imports for alias in node.names}
    if scorer.function not in {*defined, *others}:
        listed = f"its functions are {', '.join(defined)}" if defined else "it has no functions"
        raise AdapterlabError(f"metric {scorer.name}: {scorer.file} does not define {scorer.function}: {listed}")


def _names(node: ast.Assign) -> list[ast.Name]:
    return [target for target in node.targets if isinstance(target, ast.Name)]


@contextmanager
def answer_scorer(metric: str, scorer: Scorer | None) -> Iterator[Callable[[Question, str], float]]:
    """Yield a function of a question and a generated answer that returns the metric.

    Args:
        metric: Name of the metric; not used with a scorer.
        scorer: The user's scorer, or None for a metric that comes with the package.

    Yields:
        The function; with a scorer of the user it raises `ScorerError`.
    """
    if scorer is None:
        yield lambda question, text: BUILT_IN[metric](text, question.reference)
        return
    with running(scorer) as score:
        yield lambda question, text: score(Call(text, question.reference, question.row, question.place))


@contextmanager
def running(scorer: Scorer, seconds: float = CALL_SECONDS, memory: int = MEMORY) -> Iterator[Callable[[Call], float]]:
    """Yield a function that scores answers in one child process, which ends with the block.

    Args:
        scorer: The user's function.
        seconds: Seconds that one call may take.
        memory: Bytes that the child process may allocate.

    Yields:
        The function; it raises `ScorerError` if the scorer raises an error, takes too long, ends its process, or returns no
        finite number. The message names the file, the function and the row.
    """
    child = subprocess.Popen(
        [sys.executable, "-P", str(_CHILD), scorer.file, scorer.function, str(memory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # its own children are ended with it
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        _answer(child, scorer, "", START_SECONDS)
        yield lambda call: _score(child, scorer, call, seconds)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        for stream in (child.stdin, child.stdout):
            assert stream is not None
            with suppress(OSError):  # what could not be written is lost with the process
                stream.close()
        child.wait()


def _score(child: subprocess.Popen[bytes], scorer: Scorer, call: Call, seconds: float) -> float:
    assert child.stdin is not None
    content = {"prediction": call.prediction, "reference": call.reference, "row": dict(call.row)}
    with suppress(OSError):  # a child that has ended is noticed when its answer is read
        child.stdin.write(json.dumps(content, default=str).encode() + b"\n")
        child.stdin.flush()
    return _answer(child, scorer, f" on {call.place}", seconds)


def _answer(child: subprocess.Popen[bytes], scorer: Scorer, where: str, seconds: float) -> float:
    """Return the value that the child answers with; raise an error if it answers with one, too late, or not at all."""
    line = _line(child, time.monotonic() + seconds)
    if line is None:
        problem = f"ran for more than {seconds:g} s and was stopped"
    elif not line.endswith(b"\n"):
        code = child.wait()
        problem = f"ended its process ({f'signal {-code}' if code < 0 else f'exit status {code}'})"
    else:
        answer: dict[str, Any] = json.loads(line)
        if "value" in answer:
            return float(answer["value"])
        problem = answer["error"]
    raise ScorerError(
        f"the scorer {scorer.function} in {scorer.file}{where} {problem}: correct it, and run the same command again; the "
        "trials recorded so far are kept, those of other data or metrics are used again"
    )


def _line(child: subprocess.Popen[bytes], end: float) -> bytes | None:
    """Return the next line of the child, without its end if the child has ended; None if none came in time."""
    assert child.stdout is not None
    descriptor, found = child.stdout.fileno(), b""
    while not found.endswith(b"\n"):
        ready, _, _ = select.select([descriptor], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            return None
        piece = os.read(descriptor, 1 << 16)
        if not piece:
            return found
        found += piece
    return found
