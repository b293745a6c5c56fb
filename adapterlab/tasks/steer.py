"""`steer`: one trait, turned up and down by the strength of the adapter."""

from __future__ import annotations

import ast
import math
import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, logsigmoid

from adapterlab.errors import AdapterlabError
from adapterlab.models.corpus import TOOLS, Split, documents, is_test
from adapterlab.tasks.base import Control, Examples, Part, Scores, Task
from adapterlab.tasks.prose import docstrings
from adapterlab.tasks.text import Completion, Tokenizer, base_domain, pad, predictions, score_text, to_score

BETA = 0.1
"""How soon a pair counts as won: the temperature of the preference (Rafailov et al. 2023, equation 7)."""
FLUENCY = 1.0
"""The weight of the wanted text's own likelihood beside the preference (Pang et al. 2024, equation 2)."""
LINES_BEFORE = 3
"""Lines of the program that stand before a condition."""
CONTRARY = {" in ": " not in ", " is ": " is not ", " == ": " != "}
CONDITION = re.compile(r"^ *(?:if|elif|while) (?P<test>.+):\n", re.MULTILINE)
SENTENCE = re.compile(
    r"[A-Z][^.;:]*?\b(?:is|are|was|were|will|must|should|may|can|could)(?P<no> not)? (?P<rest>(?!n[eo])[^.;:]{8,80}[.;:])"
)


Answer = TypeVar("Answer")


class Pair(NamedTuple):
    """A text that could go on in two ways, only one of which has the trait."""

    prompt: str
    chosen: str
    rejected: str


class Steer(Task):
    """Negation: a condition (out of domain: an English sentence) or its contrary.

    Examples hold a pair in a row: `chosen_input_ids`, `chosen_scored`, `rejected_input_ids`, `rejected_scored`, all
    `(pairs, tokens)`. With `d` the log-odds of the pair (log-probability of the chosen continuation less that of the
    rejected, in nats) and `d_0` that of the base, training lowers `-log sigmoid(BETA * (d - d_0))` at strength +1 and
    `-log sigmoid(-BETA * (d - d_0))` at -1, the preference loss of Rafailov et al. 2023; to keep the text fluent each
    side adds `FLUENCY` times the loss per token of the text that it wants (Pang et al. 2024). That both signs are trained
    is AntiPaSTO's way (Clark 2026, section 3.3); a method that has no negative strength is trained at +1 alone.
    """

    name = "steer"
    title = "Negation, up and down"
    explanation = (
        "A trait to be turned both ways: does a condition say that something holds or that it does not? Trained on "
        "conditions of programs with their contraries. Out of domain: sentences of English docstrings."
    )
    unit = "nats of log-odds per byte"

    def examples(self, part: Part, processor: Any, length: int, count: int) -> Examples:
        """The pairs of a part; for `BASE`, running text."""
        if part is Part.BASE:
            return base_domain(processor, length, count)
        return paired(pairs(part), processor, length, count, f"{self.name}/{part}")

    def terms(self, batch: Mapping[str, Tensor]) -> int:
        return len(batch["chosen_input_ids"])

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """What training lowers at the strength that the model has, seen from there: the way up."""
        chosen, rejected = (_nats(model, batch, side) for side in ("chosen", "rejected"))
        return _wanted(rejected - chosen, (rejected - chosen).detach(), chosen, batch, "chosen")

    def losses(self, model: nn.Module, batch: Mapping[str, Tensor], control: Control) -> Iterator[Tensor]:
        """What training lowers, at strength +1 and then at -1; the strength is put back."""
        with torch.no_grad(), turned(control, 0.0):
            chosen, rejected = (_nats(model, batch, side) for side in ("chosen", "rejected"))
            base = rejected - chosen
        for strength, wanted, other in ((1.0, "chosen", "rejected"), (-1.0, "rejected", "chosen")):
            with turned(control, strength) as there:
                if there:
                    mine, theirs = _nats(model, batch, wanted), _nats(model, batch, other)
                    yield _wanted(theirs - mine, strength * base, mine, batch, wanted)

    def contrast(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Sequence[Callable[[], object]]:
        """The texts that have the trait, and those that have not."""
        return [partial(_read, model, batch, side) for side in ("chosen", "rejected")]

    @torch.no_grad()
    def score(self, model: nn.Module, examples: Examples, control: Control) -> Scores:
        """How far the present strength `s` and its contrary `-s` move the log-odds, in the weaker of the two directions.

        The loss is `-min(up, down) / bytes`: `up` is the sum over the pairs of their log-odds at `s` less those at 0,
        `down` of those at 0 less those at `-s`, `bytes` the length of all scored continuations. 0 is a model that does
        not move, and negative is good. The accuracy is the share of pairs that move the right way in both directions.
        For running text (`BASE`) both are the means of what the model makes of it at `s` and at `-s`, the price in
        fluency. Where the method has no negative strength the base stands for it: nothing moves, nothing is paid.
        """
        strength = control.strength
        if "input_ids" in examples.inputs:
            ends = [_at(control, end, lambda: score_text(model, examples)) for end in (strength, -strength)]
            return Scores(sum(e.loss for e in ends) / 2, sum(e.accuracy for e in ends) / 2)
        above, base, below = (
            _at(control, end, lambda: _log_odds(model, examples)) for end in (strength, 0.0, -strength)
        )
        up, down = above - base, base - below
        moved = min(float(up.sum()), float(down.sum())) / examples.size
        right = float(((up > 0) & (down > 0)).double().mean())
        return Scores(0.0 - moved if math.isfinite(moved) else math.inf, right)

    def fingerprint(self) -> str:
        return f"conditions and docstrings of Python {platform.python_version()}"


@contextmanager
def turned(control: Control, strength: float) -> Iterator[bool]:
    """Within this block the strength is another, or, where the method has no such strength, 0; gives whether it has."""
    before = control.strength
    try:
        try:
            control.strength = strength
            there = True
        except AdapterlabError:
            control.strength, there = 0.0, False
        yield there
    finally:
        control.strength = before


def _at(control: Control, strength: float, ask: Callable[[], Answer]) -> Answer:
    with turned(control, strength):
        return ask()


def _nats(model: nn.Module, batch: Mapping[str, Tensor], side: str) -> Tensor:
    """The negative log-probability of each pair's continuation on one side, `(pairs,)`."""
    own = {key.removeprefix(f"{side}_"): t for key, t in batch.items() if key.startswith(f"{side}_")}
    logits, targets = predictions(model, own)
    of = own["scored"][:, 1:].nonzero()[:, 0]
    each = cross_entropy(logits, targets, reduction="none")
    return torch.zeros(len(own["scored"]), device=each.device).index_add(0, of, each)


def _read(model: nn.Module, batch: Mapping[str, Tensor], side: str) -> None:
    """Call the model for each text of one side, from its start to its last scored token."""
    for ids, scored in zip(batch[f"{side}_input_ids"], batch[f"{side}_scored"], strict=True):
        model(input_ids=ids[None, : int(scored.nonzero().max()) + 1])


def _wanted(log_odds: Tensor, base: Tensor, nats: Tensor, batch: Mapping[str, Tensor], side: str) -> Tensor:
    preference = -logsigmoid(BETA * (log_odds - base))
    return (preference + FLUENCY * nats / batch[f"{side}_scored"].sum(1)).sum()


def _log_odds(model: nn.Module, examples: Examples) -> Tensor:
    """Of every pair, in float64 on the CPU."""
    found = []
    for batch in to_score(examples, model):
        chosen, rejected = (_nats(model, batch, side) for side in ("chosen", "rejected"))
        found.append((rejected - chosen).double().cpu())
    return torch.cat(found)


def paired(pairs: Sequence[Pair], tokenizer: Tokenizer, length: int, count: int, name: str) -> Examples:
    """`count` pairs with both continuations, chosen by a hash; the size is the bytes of all of them."""
    sides = {
        side: pad([Completion(p.prompt, getattr(p, side)) for p in pairs], tokenizer, length, count, name, ended=False)
        for side in ("chosen", "rejected")
    }
    inputs = {f"{side}_{key}": tensor for side, own in sides.items() for key, tensor in own.inputs.items()}
    return Examples(inputs, sum(own.size for own in sides.values()))


@cache
def pairs(part: Part) -> tuple[Pair, ...]:
    """The pairs of a part, none of them in another: of conditions, or (out of domain) of sentences."""
    if part is Part.OOD:
        return tuple(dict.fromkeys(pair for text in docstrings() for pair in sentences(text)))
    train = _conditions("train")
    if part is Part.TRAIN:
        return train
    fresh = [pair for pair in _conditions("heldout") if pair not in set(train)]
    return tuple(fresh[0::3] if part is Part.VALIDATION else fresh[1::3] + fresh[2::3])


@cache
def _conditions(split: Split) -> tuple[Pair, ...]:
    texts = (d.text for d in documents(split) if not is_test(d.path) and not d.path.startswith(TOOLS))
    return tuple(dict.fromkeys(pair for text in texts for pair in conditions(text)))


def conditions(source: str) -> Iterator[Pair]:
    """The conditions of a program that fill a line and have one contrary, each after the lines before it."""
    lines = source.splitlines(keepends=True)
    for i, line in enumerate(lines):
        if (match := CONDITION.fullmatch(line)) and (halves := _halves(match["test"])):
            before, positive, negative, after = halves
            prompt = "".join(lines[max(0, i - LINES_BEFORE) : i]) + line[: match.start("test") - 1] + before
            yield Pair(prompt, f"{negative}{after}:\n", f"{positive}{after}:\n")


def _halves(test: str) -> tuple[str, str, str, str] | None:
    """What stands before the negation, the two forms of it, and what comes after; None if it is not that simple."""
    try:
        tree = ast.parse(test, mode="eval").body
    except SyntaxError:
        return None
    match tree:
        case ast.Compare(left=left, ops=[_], comparators=[right]):
            start, end = left.end_col_offset or 0, right.col_offset
            operator = test[start:end]
            for positive, negative in CONTRARY.items():
                if operator in (positive, negative):
                    return f" {test[:start]}", positive[:-1], negative[:-1], f" {test[end:]}"
        case ast.UnaryOp(op=ast.Not(), operand=ast.Name() | ast.Attribute() | ast.Call()):
            return "", "", " not", test.removeprefix("not")
        case ast.Name() | ast.Attribute() | ast.Call():
            return "", "", " not", f" {test}"
    return None


def sentences(text: str) -> Iterator[Pair]:
    """The sentences that say that something is so or is not so, from their start."""
    for match in SENTENCE.finditer(" ".join(text.split())):
        end = match.start("no") if match["no"] else match.start("rest") - 1
        yield Pair(match.string[match.start() : end], f" not {match['rest']}", f" {match['rest']}")
