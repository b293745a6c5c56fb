"""The positions of the residual stream that an adapter edits, found from the arguments of each call.

A call marks the tokens of answers by `labels`, as in training with transformers (-100 for all others), or, where the caller
computes the loss itself, by the argument `answer_mask`. Everything before an answer is its prompt.

>>> labels = torch.tensor([[-100, -100, -100, 7, 8]])
>>> prompt = prompt_mask((1, 5), torch.tensor([[0, 1, 1, 1, 1]]), labels != -100, torch.device("cpu"))
>>> prompt.int().tolist()  # without padding and answer
[[0, 1, 1, 0, 0]]
>>> slots_of(prompt, 1, 1).tolist()  # slot 0 at the prompt's start, slot 1 at its end
[[-1, 0, 1, -1, -1]]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from adapterlab.errors import AdapterlabError
from adapterlab.surgery.model.call import Args, Arguments, Kwargs
from adapterlab.surgery.model.decoder import Decoder

ANSWER_MASK = "answer_mask"
"""Argument of a model's call that marks the tokens of answers, `(batch, tokens)`; it is removed before the model runs."""


class Positions:
    """The positions that one adapter edits in the current call, shared by all its sites.

    A prompt is a run of tokens before an answer; a row with several answers has several prompts. A row without a prompt is
    running text. A row without answers is one prompt, without its padding. A call that continues from a filled cache has no
    prompt. Within `generate`, the prompt is the text that is continued, with a cache and without.

    Args:
        ends: Number of edited positions at a prompt's start and at its end, or None to edit every position.
        whole_text: True to edit every position of running text, False to treat running text as one prompt.
    """

    def __init__(self, ends: tuple[int, int] | None, whole_text: bool = False) -> None:
        self.ends, self.whole_text = ends, whole_text
        self.slots: Int[Tensor, "batch tokens"] | None = None
        """Slot of each token of the current call, -1 for a token that is not edited; None if the call has no prompt."""
        self._users = 0
        self.generated_from: int | None = None
        """Number of tokens of the text that `generate` continues; None outside `generate`."""
        self._answers: Tensor | None = None
        self._hooks: list[RemovableHandle] = []
        self._undo: Callable[[], None] | None = None

    def watch(self, decoder: Decoder) -> None:
        """Follow the calls of a model, on behalf of one more site.

        Args:
            decoder: The decoder.
        """
        self._users += 1
        if self._users == 1 and self.ends is not None:
            root, backbone = decoder.model, decoder.backbone
            # Hooks run before a prompt is inserted, so that positions are those of the user's tokens. The answers are
            # removed only after all adapters have seen them.
            before = {"with_kwargs": True, "prepend": True}
            self._hooks = [backbone.register_forward_pre_hook(self._see_tokens, **before)]
            if root is not backbone:
                self._hooks.append(root.register_forward_pre_hook(self._see_answers, **before))
            self._hooks.append(root.register_forward_pre_hook(_without_answers, with_kwargs=True))
            if hasattr(root, "generate"):
                self._undo = follow_generation(root, self)

    def release(self) -> None:
        """Stop following the calls on behalf of one site."""
        self._users -= 1
        if not self._users:
            for hook in self._hooks:
                hook.remove()
            if self._undo is not None:
                self._undo()

    def _see_answers(self, module: nn.Module, args: Args, kwargs: Kwargs) -> None:
        call = Arguments(module, args, kwargs)
        labels, self._answers = call.tensor("labels"), call.tensor(ANSWER_MASK)
        if self._answers is None and labels is not None:
            self._answers = labels != -100

    def _see_tokens(self, module: nn.Module, args: Args, kwargs: Kwargs) -> None:
        call = Arguments(module, args, kwargs)
        given = call.tensor(ANSWER_MASK)
        answers, self._answers = (self._answers if given is None else given), None
        self.slots = None
        if call.past or self.ends is None:
            return
        if self.generated_from is not None:
            answers = self._generated(call, self.generated_from)
        mask = call.tensor("attention_mask")
        prompt = prompt_mask(call.size, mask, answers, call.device)
        text = valid_mask(call.size, mask, call.device)
        # The first token of a text is never an answer, since nothing precedes it: alone it is no prompt.
        running = ~(prompt & (text.cumsum(1) > 1)).any(1, keepdim=True) & (text.sum(1, keepdim=True) > 1)
        if self.whole_text:
            whole = torch.where(text, 0, -1)
            self.slots = torch.where(running, whole, slots_of(prompt, *self.ends))
        else:
            self.slots = slots_of(torch.where(running, text, prompt), *self.ends)

    @staticmethod
    def _generated(call: Arguments, start: int) -> Bool[Tensor, "batch tokens"]:
        """Return which tokens of a call were generated; raise an error if the call holds a part of the prompt."""
        if call.size[1] < start:
            raise AdapterlabError(
                "edits at a prompt's end need the whole prompt in one call: leave out prefill_chunk_size"
            )
        return (torch.arange(call.size[1], device=call.device) >= start).expand(call.size)


class _Generate:
    """A model's `generate`, which tells `Positions` the length of the text that it continues."""

    def __init__(self, model: nn.Module, positions: Positions) -> None:
        self.own = cast(Callable[..., Any], model.generate)
        self.replaced = vars(model).get("generate")
        self.positions = positions

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = [*args[:1], *(kwargs.get(name) for name in ("inputs", "input_ids", "inputs_embeds"))]
        start = next((tensor.shape[1] for tensor in given if isinstance(tensor, Tensor)), None)
        before, self.positions.generated_from = self.positions.generated_from, start
        try:
            return self.own(*args, **kwargs)
        finally:
            self.positions.generated_from = before


def follow_generation(model: nn.Module, positions: Positions) -> Callable[[], None]:
    """Tell `positions` the length of the text that a model's `generate` continues.

    Args:
        model: A model of transformers.
        positions: The positions of an adapter.

    Returns:
        A function that undoes this.
    """
    mine = _Generate(model, positions)
    vars(model)["generate"] = mine

    def undo() -> None:
        above = vars(model).get("generate")
        if above is mine and mine.replaced is None:
            del vars(model)["generate"]
        elif above is mine:
            vars(model)["generate"] = mine.replaced
        while isinstance(above, _Generate) and above is not mine:
            if above.own is mine:
                above.own, above.replaced = mine.own, mine.replaced
            above = above.own

    return undo


def _without_answers(module: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
    return args, {name: value for name, value in kwargs.items() if name != ANSWER_MASK}


def valid_mask(size: tuple[int, int], mask: Tensor | None, device: torch.device) -> Bool[Tensor, "batch tokens"]:
    """Return which tokens of a call are not padding.

    Args:
        size: Number of sequences, and of tokens in each.
        mask: Attention mask; ignored unless it is `(batch, tokens)`.
        device: Device of the result.
    """
    if mask is not None and mask.shape == size:
        return mask.bool()
    return torch.ones(size, dtype=torch.bool, device=device)


def prompt_mask(
    size: tuple[int, int], mask: Tensor | None, answers: Tensor | None, device: torch.device
) -> Bool[Tensor, "batch tokens"]:
    """Return which tokens of a call belong to a prompt: those before an answer, or all if the row has no answer.

    Args:
        size: Number of sequences, and of tokens in each.
        mask: Attention mask; ignored unless it is `(batch, tokens)`.
        answers: True for tokens of answers; ignored unless it is `(batch, tokens)`.
        device: Device of the result.
    """
    text = valid_mask(size, mask, device)
    if answers is None or answers.shape != size:
        return text
    answered = answers.any(1, keepdim=True)
    answers_after = answers.sum(1, keepdim=True) - answers.cumsum(1)
    return torch.where(answered, text & ~answers & (answers_after > 0), text)


def slots_of(prompt: Bool[Tensor, "batch tokens"], p: int, s: int) -> Int[Tensor, "batch tokens"]:
    """Return the slot of each token: `j` for the `j`-th of its prompt, `p + j` for the `j`-th from its end, -1 for none.

    A prompt shorter than `p + s` is divided between its two ends in halves.

    Args:
        prompt: True for tokens of prompts; each run of them is one prompt.
        p: Number of slots at a prompt's start.
        s: Number of slots at its end.
    """
    tokens = prompt.shape[1]
    at = torch.arange(tokens, device=prompt.device)
    gaps = torch.where(prompt, -1, at)
    before = gaps.cummax(1).values  # the last token before the prompt, -1 for none
    gaps = torch.where(prompt, tokens, at)
    after = gaps.flip(1).cummin(1).values.flip(1)  # the first token behind it
    length = after - before - 1
    short = length < p + s
    most_start = torch.where(short, torch.div(length, 2, rounding_mode="floor").clamp(max=p), p)
    most_end = torch.where(short, torch.div(length + 1, 2, rounding_mode="floor").clamp(max=s), s)
    from_start, from_end = at - before - 1, after - at - 1
    slots = torch.where(from_end < most_end, p + from_end, -1)
    slots = torch.where(from_start < most_start, from_start, slots)
    return torch.where(prompt, slots, -1)
