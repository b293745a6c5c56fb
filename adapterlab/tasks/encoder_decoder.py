"""Language modelling with encoder-decoders: the prompt goes to the encoder, and the decoder predicts the answer.

Examples are those of decoders, prompt and answer in one row. They are divided when the model is called.

>>> from adapterlab.models.loading import load_causal
>>> is_encoder_decoder(load_causal().model)
False
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from adapterlab.errors import AdapterlabError
from adapterlab.tasks.base import Examples


def is_encoder_decoder(model: nn.Module) -> bool:
    """Return True for a model whose encoder reads the prompt and whose decoder writes the answer.

    Args:
        model: A model of transformers.
    """
    return bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))


def with_one_answer(examples: Examples, tokenizer: Any, name: str) -> Examples:
    """Return examples whose scored tokens are one run at the end of each row, after a prompt.

    Of a row with several answers the last one stays scored, with all before it as its prompt. Of a row of running text the
    second half does, with the first half as its prompt.

    Args:
        examples: Examples with `input_ids` and `scored`.
        tokenizer: The model's tokenizer.
        name: Name of the task, for the error message.

    Raises:
        AdapterlabError: If the task does not score one text for each row.
    """
    if "scored" not in examples.inputs:
        raise AdapterlabError(f"the task {name} is not one of prompts and answers: take a model with a decoder alone")
    ids, scored = examples.inputs["input_ids"], examples.inputs["scored"].clone()
    for row in scored:
        positions = row.nonzero()[:, 0].tolist()
        ends = [i for i, (a, b) in enumerate(itertools.pairwise(positions), 1) if b != a + 1]
        run = positions[ends[-1] if ends else 0 :]
        start = run[0] if run[0] > 1 else run[0] + max(1, len(run) // 2) if len(run) > 1 else run[0]
        row[:start] = False
    texts = tokenizer.batch_decode(
        [row[mask].tolist() for row, mask in zip(ids, scored, strict=True)], skip_special_tokens=True
    )
    size = max(1, sum(len(text.encode()) for text in texts))
    return Examples({**examples.inputs, "scored": scored}, size)


def divided(
    config: Any, ids: Int[Tensor, "rows tokens"], scored: Bool[Tensor, "rows tokens"], length: int | None = None
) -> tuple[dict[str, Tensor], Int[Tensor, " terms"], Int[Tensor, " terms"]]:
    """Return the call of an encoder-decoder that predicts the scored end of each row.

    Args:
        config: The model's configuration.
        ids: Prompts with their answers, padded on the right.
        scored: For each token, True if it is scored: one run at the end of each row.
        length: Columns of both the encoder's and the decoder's input; by default those of the longest.

    Returns:
        Arguments of the call, the positions in the decoder before the scored tokens, counted over its flattened rows, and
        the ids of the scored tokens.
    """
    filler = config.pad_token_id if config.pad_token_id is not None else 0
    end = [] if config.eos_token_id is None else [_first(config.eos_token_id)]
    opening = [config.decoder_start_token_id if config.decoder_start_token_id is not None else filler]
    forced = getattr(config, "forced_bos_token_id", None)
    opening += [] if forced is None else [forced]
    prompts, answers = [], []
    for row, mask in zip(ids, scored, strict=True):
        count, start = int(mask.sum()), int(mask.to(torch.uint8).argmax())
        prompts.append(row[:start].tolist() + end)
        answers.append(row[start : start + count].tolist())
    inputs = [opening + answer[:-1] for answer in answers]
    wide, deep = (max(map(len, rows)) if length is None else length + 1 for rows in (prompts, inputs))
    mask = torch.tensor([[1] * len(row) + [0] * (wide - len(row)) for row in prompts], device=ids.device)
    call = {
        "input_ids": _padded(prompts, wide, filler, ids.device),
        "attention_mask": mask,
        "decoder_input_ids": _padded(inputs, deep, filler, ids.device),
    }
    places = [i * deep + len(opening) - 1 + k for i, answer in enumerate(answers) for k in range(len(answer))]
    targets = [token for answer in answers for token in answer]
    return call, torch.tensor(places, device=ids.device), torch.tensor(targets, device=ids.device)


def encoder_prompt(config: Any, ids: list[int]) -> list[int]:
    """Return a prompt as the encoder reads it: with the end of text, as in training.

    Args:
        config: The model's configuration.
        ids: Token ids of the prompt.
    """
    return ids if config.eos_token_id is None else [*ids, _first(config.eos_token_id)]


def _first(token: int | list[int]) -> int:
    return token[0] if isinstance(token, list) else token


def _padded(rows: list[list[int]], width: int, filler: int, device: torch.device) -> Tensor:
    return torch.tensor([row + [filler] * (width - len(row)) for row in rows], device=device)
