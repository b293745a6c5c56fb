"""Losses of a causal language model on the scored tokens of some rows, computed without the logits of all others.

Rows are padded on the right. Columns behind the last scored token of a batch are cut off, the output head runs only where
a scored token is predicted, and rows of about equal length are scored together.

>>> from adapterlab.models.loading import load_causal
>>> model, tokenizer = load_causal()
>>> ids = torch.tensor([tokenizer("import os")["input_ids"] + [0, 0]])
>>> scored = torch.tensor([[False, True, False, False]])
>>> logits, targets = predictions(model, {"input_ids": ids, "scored": scored})
>>> logits.shape[0], tokenizer.decode(targets)
(1, ' os')
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from adapterlab.surgery.sites.positions import ANSWER_MASK
from adapterlab.surgery.sites.residual import takes_answer_mask
from adapterlab.tasks.base import Examples, Scores
from adapterlab.tasks.encoder_decoder import divided, is_encoder_decoder

TOKENS_AT_ONCE = 8192
"""Tokens per forward pass when scoring."""
LOGITS_AT_ONCE, LOGITS_AT_ONCE_ON_GPU = 2**25, 2**28
"""Logits per forward pass: 128 MiB in float32 on a CPU, 1 GiB on a GPU; a loss and its gradient need several times that."""


class Query(NamedTuple):
    """One call of a model, and the tokens that it is asked for."""

    inputs: dict[str, Tensor]
    """Arguments of the call."""
    places: Int[Tensor, " terms"]
    """Positions before the scored tokens, counted over the flattened rows."""
    targets: Int[Tensor, " terms"]
    """Ids of the scored tokens."""


def predictions(model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Run the model and return its predictions of the scored tokens.

    Args:
        model: A causal language model.
        batch: `input_ids` and `scored`, both `(rows, tokens)`; other inputs are passed to the model as they are.

    Returns:
        Logits `(terms, vocabulary)` in float32, and the token ids to predict `(terms,)`.
    """
    asked = query(model, batch)
    return logits_at(model, asked.inputs, asked.places).float(), asked.targets


def query(model: nn.Module, batch: Mapping[str, Tensor], length: int | None = None) -> Query:
    """Return the call of a model that predicts the scored tokens of a batch.

    An attention mask is left out if nothing is padded. A model with an adapter that edits prompts is told which tokens are
    answers.

    Args:
        model: A causal language model.
        batch: `input_ids` and `scored`, both `(rows, tokens)`, and other inputs.
        length: Columns to keep; by default those up to the last scored token.
    """
    if is_encoder_decoder(model):
        config: Any = model.config
        return Query(*divided(config, batch["input_ids"], batch["scored"], length))
    used = used_length(batch) if length is None else length
    cropped = {name: tensor[:, :used] if tensor.ndim > 1 else tensor for name, tensor in batch.items()}
    scored = cropped.pop("scored")
    mask = cropped.get("attention_mask")
    if mask is not None and bool(mask.all()):
        del cropped["attention_mask"]
    if takes_answer_mask(model):
        cropped[ANSWER_MASK] = scored
    row, column = scored[:, 1:].nonzero(as_tuple=True)
    return Query(cropped, row * scored.shape[1] + column, cropped["input_ids"][row, column + 1])


def used_length(batch: Mapping[str, Tensor]) -> int:
    """Return the number of columns up to the last scored token of a batch.

    Args:
        batch: Inputs with `scored`, `(rows, tokens)`.
    """
    return max(1, int(_used(batch["scored"]).max()))


def logits_at(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    index: Int[Tensor, " terms"],
    call: Callable[..., Any] | None = None,
) -> Float[Tensor, "terms vocabulary"]:
    """Return a model's logits at some positions only.

    The output head runs at these positions alone, if the model names it (`get_output_embeddings`) and calls it once on the
    hidden states of all positions; else the positions are picked from the logits of all.

    Args:
        model: A causal language model.
        inputs: Arguments of the call, with `input_ids`.
        index: Positions, counted over the flattened rows.
        call: Calls the model with the inputs, for a caller that must do more than that; by default the model itself.
    """
    entered = inputs["decoder_input_ids"] if "decoder_input_ids" in inputs else inputs["input_ids"]
    with _head_at(model, entered.shape[:2], index) as picked:
        logits: Tensor = (call or model)(**inputs).logits
    return logits.flatten(0, 1) if picked else logits.flatten(0, 1).index_select(0, index)


@contextmanager
def _head_at(model: nn.Module, size: torch.Size, index: Tensor) -> Iterator[list[bool]]:
    """Give the output head only the positions of `index`; the yielded list is filled once it has run on them."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    picked: list[bool] = []
    if not isinstance(head, nn.Module):
        yield picked
        return

    def pick(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        hidden, *rest = args
        if hidden.shape[:-1] != size:
            return None
        picked.append(True)
        return hidden.flatten(0, 1).index_select(0, index.to(hidden.device))[None], *rest

    hook = head.register_forward_pre_hook(pick)
    try:
        yield picked
    finally:
        hook.remove()


def rows_at_once(model: nn.Module, batch: Mapping[str, Tensor], copies: int = 1) -> int:
    """Return how many rows of a batch fit in one pass, so that a large vocabulary does not fill the memory with logits.

    Args:
        model: The model that will run on them.
        batch: Inputs of the model; one whose name ends in `scored` marks the tokens that need logits.
        copies: Number of batches of this size in one pass.

    Returns:
        At least 1; the number of rows if the model has no vocabulary, or nothing is marked.
    """
    count = len(next(iter(batch.values())))
    scored = [mask for name, mask in batch.items() if name.endswith("scored")]
    return max(1, min(count, _most_rows(model, _terms(scored)) // copies)) if scored else count


def _most_rows(model: nn.Module, terms: Int[Tensor, " rows"]) -> int:
    """Return the number of rows whose logits fit in one pass, if each has as many terms as the largest."""
    config: Any = getattr(model, "config", None)
    vocabulary = getattr(config.get_text_config(), "vocab_size", 1) if hasattr(config, "get_text_config") else 1
    on_gpu = next(model.parameters()).device.type != "cpu"
    return (LOGITS_AT_ONCE_ON_GPU if on_gpu else LOGITS_AT_ONCE) // max(1, int(terms.max()) * vocabulary)


def _terms(scored: Sequence[Bool[Tensor, "rows tokens"]]) -> Int[Tensor, " rows"]:
    """Return the most scored tokens that each row has in any of its texts."""
    return torch.stack([mask.sum(1) for mask in scored]).amax(0)


def scoring_batches(
    examples: Examples, model: nn.Module, tokens: int = TOKENS_AT_ONCE
) -> Iterator[tuple[Int[Tensor, " rows"], dict[str, Tensor]]]:
    """Yield the examples in batches of rows of about equal length, the longest first, on the model's device.

    Args:
        examples: Examples to score; an input whose name ends in `scored` marks the scored tokens.
        model: The model that will score them.
        tokens: Tokens per batch, padding included; a batch has at least one row, and no more logits than fit in one pass.

    Yields:
        Numbers of the rows, and the batch.
    """
    device = next(model.parameters()).device
    used = [_used(mask) for name, mask in examples.inputs.items() if name.endswith("scored")]
    lengths = torch.stack(used).amax(0)
    terms = _terms([mask for name, mask in examples.inputs.items() if name.endswith("scored")])
    order = lengths.argsort(descending=True, stable=True)
    while len(order):
        count = max(1, min(tokens // max(1, int(lengths[order[0]])), _most_rows(model, terms[order])))
        rows, order = order[:count], order[count:]
        yield rows, {name: t.to(device) for name, t in examples.rows(rows).items()}


def _used(scored: Bool[Tensor, "rows tokens"]) -> Int[Tensor, " rows"]:
    """Return the number of columns up to the last scored token of each row."""
    return (scored * torch.arange(1, scored.shape[1] + 1, device=scored.device)).amax(1)


@torch.no_grad()
def score_text(model: nn.Module, examples: Examples, tokens: int = TOKENS_AT_ONCE) -> Scores:
    """Return the loss in nats per byte of scored text, the share of correct predictions, and the loss of each row.

    Args:
        model: A causal language model.
        examples: Examples with `input_ids` and `scored`; their size is the number of scored bytes.
        tokens: Tokens per forward pass.
    """
    nats, hits, terms = torch.zeros(len(examples), dtype=torch.float64), 0, 0
    for rows, batch in scoring_batches(examples, model, tokens):
        logits, targets = predictions(model, batch)
        each = cross_entropy(logits, targets, reduction="none").double()
        nats[rows] = sum_by_row(each, batch["scored"]).cpu()
        hits += int((logits.argmax(-1) == targets).sum())
        terms += len(targets)
    return mean_of_rows(nats, examples.size, hits / terms)


def sum_by_row(each: Float[Tensor, " terms"], scored: Bool[Tensor, "rows tokens"]) -> Float[Tensor, " rows"]:
    """Return the sum over each row of a value of each scored token.

    Args:
        each: Values of the scored tokens, in the order of `predictions`.
        scored: For each token, True if it is scored; the first token of a row never is.
    """
    row = scored[:, 1:].nonzero()[:, 0]
    return each.new_zeros(len(scored)).index_add(0, row, each)


def mean_of_rows(nats: Float[Tensor, " rows"], size: float, accuracy: float) -> Scores:
    """Return scores whose loss is the sum over the rows, divided by the size of the data.

    Args:
        nats: Summed loss of each row.
        size: Divisor of the summed loss: `Examples.size`.
        accuracy: Share of correct predictions.

    Example:
        >>> mean_of_rows(torch.tensor([1.0, 3.0]), size=8, accuracy=0.5)
        Scores(loss=0.5, accuracy=0.5, rows=(0.25, 0.75))
    """
    loss = float(nats.double().sum()) / size
    if not math.isfinite(loss):
        return Scores(math.inf, accuracy)
    return Scores(loss, accuracy, tuple((nats.double() * (len(nats) / size)).tolist()))
