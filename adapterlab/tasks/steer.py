"""The `steer` task: one trait that the adapter's strength turns up and down."""

from __future__ import annotations

import ast
import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, logsigmoid

from adapterlab.errors import AdapterlabError
from adapterlab.models.corpus import TOOLS, Split, documents, is_test
from adapterlab.tasks.base import Control, Examples, Part, Scores, Task, kept_of
from adapterlab.tasks.prose import docstrings
from adapterlab.tasks.scoring import mean_of_rows, predictions, score_text, scoring_batches, sum_by_row
from adapterlab.tasks.text import Completion, Tokenizer, base_domain, pad

BETA = 0.1
"""Factor on the log-odds in the preference loss (Rafailov et al. 2023, equation 7)."""
FLUENCY = 1.0
"""Weight of the wanted text's own loss beside the preference loss (Pang et al. 2024, equation 2)."""
LINES_BEFORE = 3
"""Lines of the program before a condition that are part of the prompt."""
NEGATED = {" in ": " not in ", " is ": " is not ", " == ": " != "}
"""Comparisons and their negations."""
CONDITION = re.compile(r"^ *(?:if|elif|while) (?P<test>.+):\n", re.MULTILINE)
"""A line of a program that tests a condition."""
SENTENCE = re.compile(
    r"[A-Z][^.;:]*?\b(?:is|are|was|were|will|must|should|may|can|could)(?P<no> not)? (?P<rest>(?!n[eo])[^.;:]{8,80}[.;:])"
)
"""An English sentence that says that something is or is not the case."""


T = TypeVar("T")


class Pair(NamedTuple):
    """A text with two continuations; only the one called `chosen` has the trait."""

    prompt: str
    chosen: str
    rejected: str


class Steer(Task):
    """Negation: a condition (out of domain: an English sentence) or its opposite.

    Each row of examples holds a pair: `chosen_input_ids`, `chosen_scored`, `chosen_attention_mask` and the same for
    `rejected`, all `(pairs, tokens)`. Let `d` be the log-odds of the pair (log-probability of the chosen continuation minus
    that of the rejected one, in nats) and `d_0` the log-odds under the base model. Training minimizes
    `-log sigmoid(BETA (d - d_0))` at strength +1 and `-log sigmoid(-BETA (d - d_0))` at strength -1, the preference loss of
    Rafailov et al. 2023. To keep the text fluent, each side adds `FLUENCY` times the loss per token of the text it prefers
    (Pang et al. 2024). Training both signs follows AntiPaSTO (Clark 2026, section 3.3); a method without negative strengths
    is trained at +1 only.
    """

    name = "steer"
    title = "Negation in both directions"
    explanation = (
        "A trait to be turned up and down: does a condition say that something holds, or that it does not? Trained on "
        "conditions of programs and their opposites. Out of domain: sentences of English docstrings."
    )
    unit = "nats of log-odds per byte"
    prompted = True
    scores_answers = True

    def examples(self, part: Part, processor: Tokenizer, length: int, count: int) -> Examples:
        if part is Part.BASE:
            return base_domain(processor, length, count)
        return encode_pairs(self.pairs(part), processor, length, count, f"{self.name}/{part}")

    def pairs(self, part: Part) -> Sequence[Pair]:
        """Return the pairs of a part; no pair is in two parts.

        Args:
            part: Any part except `Part.BASE`.
        """
        return pairs(part)

    def terms(self, batch: Mapping[str, Tensor]) -> int:
        return len(batch["chosen_input_ids"])

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the loss for more of the trait, with the model at its present strength in place of the base model.

        Args:
            model: The model with its adapter.
            batch: Pairs, as `encode_pairs` makes them.
        """
        chosen, rejected = (_negative_log_likelihood(model, batch, side) for side in ("chosen", "rejected"))
        return _preference_loss(rejected - chosen, (rejected - chosen).detach(), chosen, batch, "chosen")

    def losses(self, model: nn.Module, batch: Mapping[str, Tensor], control: Control) -> Iterator[Tensor]:
        """Yield the loss at strength +1 and then at -1, if the method supports it; the strength is restored.

        Args:
            model: The model with its adapter.
            batch: Pairs, as `encode_pairs` makes them.
            control: Sets the strength of the adapter.
        """
        with torch.no_grad(), at_strength(control, 0.0):
            chosen, rejected = (_negative_log_likelihood(model, batch, side) for side in ("chosen", "rejected"))
            base = rejected - chosen
        for strength, wanted, other in ((1.0, "chosen", "rejected"), (-1.0, "rejected", "chosen")):
            with at_strength(control, strength) as supported:
                if supported:
                    preferred = _negative_log_likelihood(model, batch, wanted)
                    avoided = _negative_log_likelihood(model, batch, other)
                    yield _preference_loss(avoided - preferred, strength * base, preferred, batch, wanted)

    def contrast(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Sequence[Callable[[], object]]:
        return [partial(_run_texts, model, batch, side) for side in ("chosen", "rejected")]

    @torch.no_grad()
    def score(self, model: nn.Module, examples: Examples, control: Control) -> Scores:
        """Return how far the present strength `s` and `-s` move the log-odds, in the weaker of the two directions.

        The loss is `-min(up, down) / bytes`: `up` is the sum over the pairs of their log-odds at `s` minus those at 0,
        `down` of those at 0 minus those at `-s`, `bytes` the length of all scored continuations. A model that does not
        move has loss 0; lower is better. The accuracy is the share of pairs that move the right way in both directions.

        For running text (`Part.BASE`) loss and accuracy are the means of the ordinary ones at `s` and at `-s`: the price
        in fluency. For a method without negative strengths the base model takes the place of `-s`.

        The rows are the pairs' shares in the direction that is the weaker one over all pairs, so their mean is the loss.

        Args:
            model: The model with its adapter.
            examples: Pairs, as `encode_pairs` makes them, or running text.
            control: Sets the strength of the adapter; restored at the end.
        """
        strength = control.strength
        if "input_ids" in examples.inputs:
            ends = [_evaluated(control, end, lambda: score_text(model, examples)) for end in (strength, -strength)]
            rows = tuple((one + other) / 2 for one, other in zip(*(e.rows for e in ends), strict=False))
            return Scores(sum(e.loss for e in ends) / 2, sum(e.accuracy for e in ends) / 2, rows)
        kept = kept_of(control)
        if "log_odds" not in kept:
            kept["log_odds"] = _evaluated(control, 0.0, lambda: _log_odds(model, examples))
        base: Tensor = kept["log_odds"]
        above, below = (_evaluated(control, end, lambda: _log_odds(model, examples)) for end in (strength, -strength))
        up, down = above - base, base - below
        weaker = up if float(up.sum()) <= float(down.sum()) else down
        right = float(((up > 0) & (down > 0)).double().mean())
        return mean_of_rows(0.0 - weaker, examples.size, right)

    def fingerprint(self) -> str:
        return f"conditions and docstrings of Python {platform.python_version()}"


@contextmanager
def at_strength(control: Control, strength: float) -> Iterator[bool]:
    """Set the adapter's strength within a block, to 0 if the method does not support the strength.

    Args:
        control: Sets the strength of the adapter; restored at the end of the block.
        strength: Strength within the block.

    Yields:
        True if the method supports the strength.
    """
    before = control.strength
    try:
        try:
            control.strength = strength
            supported = True
        except AdapterlabError:
            control.strength, supported = 0.0, False
        yield supported
    finally:
        control.strength = before


def _evaluated(control: Control, strength: float, evaluate: Callable[[], T]) -> T:
    with at_strength(control, strength):
        return evaluate()


def _negative_log_likelihood(model: nn.Module, batch: Mapping[str, Tensor], side: str) -> Tensor:
    """Return the negative log-probability of each pair's continuation on one side, in nats, `(pairs,)`."""
    inputs = {key.removeprefix(f"{side}_"): t for key, t in batch.items() if key.startswith(f"{side}_")}
    logits, targets = predictions(model, inputs)
    return sum_by_row(cross_entropy(logits, targets, reduction="none"), inputs["scored"])


def _run_texts(model: nn.Module, batch: Mapping[str, Tensor], side: str) -> None:
    """Call the model for each text of one side, from its start to its last scored token."""
    for ids, scored in zip(batch[f"{side}_input_ids"], batch[f"{side}_scored"], strict=True):
        model(input_ids=ids[None, : int(scored.nonzero().max()) + 1])


def _preference_loss(log_odds: Tensor, base: Tensor, nats: Tensor, batch: Mapping[str, Tensor], side: str) -> Tensor:
    """Return the preference loss plus the loss per token of the preferred text, summed over the pairs.

    `log_odds`, `base` and `nats` are `(pairs,)`: the log-odds in favour of `side`, those of the base model, and the
    negative log-likelihood of the text on `side`.
    """
    preference = -logsigmoid(BETA * (log_odds - base))
    return (preference + FLUENCY * nats / batch[f"{side}_scored"].sum(1)).sum()


def _log_odds(model: nn.Module, examples: Examples) -> Tensor:
    """Return the log-odds of every pair, in float64 on the CPU."""
    found = torch.zeros(len(examples), dtype=torch.float64)
    for rows, batch in scoring_batches(examples, model):
        chosen, rejected = (_negative_log_likelihood(model, batch, side) for side in ("chosen", "rejected"))
        found[rows] = (rejected - chosen).double().cpu()
    return found


def encode_pairs(pairs: Sequence[Pair], tokenizer: Tokenizer, length: int, count: int, name: str) -> Examples:
    """Encode pairs as token ids, each side padded on the right.

    Args:
        pairs: Prompts with two continuations.
        tokenizer: The model's tokenizer.
        length: Largest number of tokens in a text; a longer one loses the start of its prompt.
        count: Largest number of pairs, chosen by a hash; those of a smaller count are the first ones of a larger count.
        name: Seed of the hash, and the name in errors.

    Returns:
        `input_ids`, `scored` and `attention_mask` of each side, with `chosen_` or `rejected_` before the name, all
        `(pairs, tokens)`; the size is the number of bytes of all continuations.
    """
    sides = {
        side: pad([Completion(p.prompt, getattr(p, side)) for p in pairs], tokenizer, length, count, name, ended=False)
        for side in ("chosen", "rejected")
    }
    inputs = {f"{side}_{key}": tensor for side, texts in sides.items() for key, tensor in texts.inputs.items()}
    return Examples(inputs, sum(texts.size for texts in sides.values()))


@cache
def pairs(part: Part) -> tuple[Pair, ...]:
    """Return the pairs of a part; no pair is in two parts.

    Args:
        part: Any part except `Part.BASE`. Out of domain the pairs are of sentences, else of conditions.
    """
    if part is Part.OOD:
        return tuple(dict.fromkeys(pair for text in docstrings() for pair in sentences(text)))
    train = _conditions("train")
    if part is Part.TRAIN:
        return train
    new = [pair for pair in _conditions("heldout") if pair not in set(train)]
    return tuple(new[0::3] if part is Part.VALIDATION else new[1::3] + new[2::3])


@cache
def _conditions(split: Split) -> tuple[Pair, ...]:
    texts = (d.text for d in documents(split) if not is_test(d.path) and not d.path.startswith(TOOLS))
    return tuple(dict.fromkeys(pair for text in texts for pair in conditions(text)))


def conditions(source: str) -> Iterator[Pair]:
    r"""Yield the conditions of a program that fill a line and have a simple opposite, each after the lines before it.

    Args:
        source: Source code of a Python module.

    Yields:
        Pairs in the order of the source, the negated condition as `chosen`.

    Example:
        >>> for pair in conditions("x = 1\nif x in y:\n    pass\n"):
        ...     print(pair)
        Pair(prompt='x = 1\nif x', chosen=' not in y:\n', rejected=' in y:\n')
    """
    lines = source.splitlines(keepends=True)
    for i, line in enumerate(lines):
        if (match := CONDITION.fullmatch(line)) and (pieces := _both_forms(match["test"])):
            before, positive, negative, after = pieces
            prompt = "".join(lines[max(0, i - LINES_BEFORE) : i]) + line[: match.start("test") - 1] + before
            yield Pair(prompt, f"{negative}{after}:\n", f"{positive}{after}:\n")


def _both_forms(test: str) -> tuple[str, str, str, str] | None:
    """Return the text before the negation, the positive and the negated form, and the text after; None if not simple."""
    try:
        tree = ast.parse(test, mode="eval").body
    except SyntaxError:
        return None
    match tree:
        case ast.Compare(left=left, ops=[_], comparators=[right]):
            start, end = left.end_col_offset or 0, right.col_offset
            operator = test[start:end]
            for positive, negative in NEGATED.items():
                if operator in (positive, negative):
                    return f" {test[:start]}", positive[:-1], negative[:-1], f" {test[end:]}"
        case ast.UnaryOp(op=ast.Not(), operand=ast.Name() | ast.Attribute() | ast.Call()):
            return "", "", " not", test.removeprefix("not")
        case ast.Name() | ast.Attribute() | ast.Call():
            return "", "", " not", f" {test}"
    return None


def sentences(text: str) -> Iterator[Pair]:
    """Yield the sentences of a text that say that something is or is not the case.

    Args:
        text: English text.

    Yields:
        Pairs in the order of the text, the negated sentence as `chosen`.
    """
    for match in SENTENCE.finditer(" ".join(text.split())):
        end = match.start("no") if match["no"] else match.start("rest") - 1
        yield Pair(match.string[match.start() : end], f" not {match['rest']}", f" {match['rest']}")
