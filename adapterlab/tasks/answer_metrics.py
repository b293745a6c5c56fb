"""Metrics of a generated answer beside its reference: exact match, token F1, and whether the reference is contained.

Both texts are normalized first as the evaluation of SQuAD does (Rajpurkar et al. 2016, `evaluate-v2.0.py`): lower case, no
ASCII punctuation, no articles, single spaces. Unlike there, numbers keep what decides their value, so that "-5" is not "5"
and "1.5" is not "15". For code, or wherever case and punctuation count, give a scorer of your own (`python:FILE.FUNCTION`).

>>> normalized("The answer is 1,200.50!"), normalized("It's -5, not 5.")
('answer is 1200.5', 'its -5 not 5')
>>> exact_match("42.", "42"), exact_match("4.2", "42"), contains("It is 42, I think.", "42"), contains("It is 420.", "42")
(1.0, 0.0, 1.0, 0.0)
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from adapterlab.errors import AdapterlabError

MAX_NEW_TOKENS = 64
"""Tokens of an answer, at most, if a task names no number."""
PYTHON = "python:"
"""Beginning of a metric that names a function of the user."""
_NUMBER = re.compile(
    r"(?:(?<![\w)\]])[-+])?"  # a sign, unless it follows a word: "-5", and not "3-5"
    r"(?:\d+(?:[^\w\s]\d+)*|(?<![\w.])\.\d+)"  # digits, with single marks between them: 1.5, 1,200, 1/2, 12:30
    r"(?:e[-+]?\d+)?"
)
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?")
_DECIMAL = re.compile(r"\d*\.\d+")
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Scorer(NamedTuple):
    """A function of the user that scores answers."""

    file: str
    """Python file, an absolute path after `beside`."""
    function: str

    @property
    def name(self) -> str:
        """Name in reports and trials, which does not depend on the file's folder."""
        return f"{PYTHON}{Path(self.file).stem}.{self.function}"


def normalized(text: str) -> str:
    """Return a text in lower case, without ASCII punctuation, articles and superfluous space.

    In numbers, marks between two digits and a sign are kept; thousands separators, zeros at the end of a decimal fraction
    and a plus sign are not: "+1,200.50" becomes "1200.5", "1/2" and "12:30" stay.

    Args:
        text: Any text.
    """
    text = text.lower().replace("\u2212", "-")
    pieces, end = [], 0
    for match in _NUMBER.finditer(text):
        pieces += [text[end : match.start()].translate(_PUNCTUATION), _number(match.group())]
        end = match.end()
    return " ".join(_ARTICLES.sub(" ", "".join((*pieces, text[end:].translate(_PUNCTUATION)))).split())


def _number(text: str) -> str:
    sign, body = ("-", text[1:]) if text[0] == "-" else ("", text.removeprefix("+"))
    if _THOUSANDS.fullmatch(body):
        body = body.replace(",", "")
    if _DECIMAL.fullmatch(body):
        body = body.rstrip("0").rstrip(".")
        body = f"0{body}" if body.startswith(".") or not body else body
    return body if body == "0" else sign + body


def exact_match(prediction: str, reference: str) -> float:
    """Return 1 if the normalized texts are equal, else 0 (the exact match of SQuAD).

    Args:
        prediction: The generated answer.
        reference: The right answer.
    """
    return float(normalized(prediction) == normalized(reference))


def token_f1(prediction: str, reference: str) -> float:
    """Return the F1 score of the normalized words, counted with their repetitions (the F1 of SQuAD 2.0).

    Args:
        prediction: The generated answer.
        reference: The right answer.

    >>> token_f1("a big black cat", "the black cat")
    0.8
    """
    found, wanted = normalized(prediction).split(), normalized(reference).split()
    if not found or not wanted:
        return float(found == wanted)
    shared = sum((Counter(found) & Counter(wanted)).values())
    return 2 * shared / (len(found) + len(wanted))


def contains(prediction: str, reference: str) -> float:
    """Return 1 if the words of the reference follow each other in the answer, else 0.

    This is the accuracy of Mallen et al. (2023, "When Not to Trust Language Models"), on whole words, so that "42" is not
    found in "420". A reference without words must be equal to the answer.

    Args:
        prediction: The generated answer.
        reference: The right answer.
    """
    found, wanted = normalized(prediction), normalized(reference)
    return float(f" {wanted} " in f" {found} " if wanted else found == wanted)


BUILT_IN: Mapping[str, Callable[[str, str], float]] = {
    "exact_match": exact_match,
    "f1": token_f1,
    "contains": contains,
}
"""Metrics that come with the package, by name; each is from 0 to 1, and higher is better."""
TITLES = {"exact_match": "exact match", "f1": "F1 of the words", "contains": "share of answers with the reference"}
"""Names of the metrics in reports; a scorer of the user has its own name."""


def title_of(metric: str) -> str:
    """Return the name of a metric in reports.

    Args:
        metric: Name of the metric.
    """
    scorer = scorer_of(metric)
    return TITLES.get(metric, metric) if scorer is None else scorer.name.removeprefix(PYTHON)


def scorer_of(metric: str) -> Scorer | None:
    """Return the function that a metric names, or None for one that comes with the package.

    Args:
        metric: Such as `exact_match`, or `python:my_scorer.score` for the function `score` in `my_scorer.py`.

    Raises:
        AdapterlabError: If it is neither.

    >>> scorer_of("python:my_scorer.score")
    Scorer(file='my_scorer.py', function='score')
    """
    if metric in BUILT_IN or not metric:
        return None
    module, _, function = metric.removeprefix(PYTHON).rpartition(".")
    if not metric.startswith(PYTHON) or not module or not function.isidentifier():
        raise AdapterlabError(
            f"metric {metric!r} is not known: give one of {', '.join(BUILT_IN)}, or python:FILE.FUNCTION, such as "
            "python:my_scorer.score for the function score in my_scorer.py"
        )
    path = module.removesuffix(".py") if "/" in module else module.replace(".", "/")
    return Scorer(f"{path}.py", function)


def beside(metric: str, folder: Path) -> str:
    """Return a metric with the file of its function resolved against a folder.

    Args:
        metric: Name of a metric.
        folder: The folder.

    Raises:
        AdapterlabError: If there is no such metric.
    """
    scorer = scorer_of(metric)
    if scorer is None:
        return metric
    file = (folder / scorer.file).resolve()
    return f"{PYTHON}{file.with_suffix('')}.{scorer.function}"
