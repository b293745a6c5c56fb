"""The residual stream after a block, edited at chosen positions of the prompt.

>>> labels = torch.tensor([[-100, -100, -100, 7, 8]])
>>> prompt = prompt_mask((1, 5), torch.tensor([[0, 1, 1, 1, 1]]), labels, torch.device("cpu"))
>>> prompt.int().tolist()  # without padding and answer
[[0, 1, 1, 0, 0]]
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from adapterlab.adapters.adapter_types import ResidualAdapter
from adapterlab.adapters.context import Context
from adapterlab.adapters.state import State
from adapterlab.surgery.model.call import Args, Arguments, Kwargs, Output
from adapterlab.surgery.model.decoder import Block, Decoder
from adapterlab.surgery.model.submodules import RESIDUAL_SITES
from adapterlab.surgery.sites.base import Place, Site, add_site, remove_site, site_names


class Positions:
    """The positions that one adapter edits in the current call, shared by all its sites.

    The prompt is everything before the first labelled token, without padding; or, if nothing or the first token is
    labelled, everything without padding. A call that continues from a filled cache has no prompt.

    Args:
        ends: Number of edited positions at the prompt's start and at its end, or None to edit every position.
    """

    def __init__(self, ends: tuple[int, int] | None) -> None:
        self.ends = ends
        self.tokens = 0
        """Number of tokens in each sequence of the current call."""
        self.slots: tuple[Int[Tensor, "batch slots"], Bool[Tensor, "batch slots"]] | None = None
        """The edited positions, and which of them are in use; None if the call has no prompt."""
        self._users = 0
        self._labels: Tensor | None = None
        self._hooks: list[RemovableHandle] = []

    def watch(self, decoder: Decoder) -> None:
        """Follow the calls of a model, on behalf of one more site.

        Args:
            decoder: The decoder.
        """
        self._users += 1
        if self._users == 1 and self.ends is not None:
            # Hooks run before a prompt is inserted, so that positions are those of the user's tokens.
            options = {"with_kwargs": True, "prepend": True}
            self._hooks = [decoder.backbone.register_forward_pre_hook(self._see_tokens, **options)]
            if decoder.model is not decoder.backbone:
                self._hooks.append(decoder.model.register_forward_pre_hook(self._see_labels, **options))

    def release(self) -> None:
        """Stop following the calls on behalf of one site."""
        self._users -= 1
        if not self._users:
            for hook in self._hooks:
                hook.remove()

    def _see_labels(self, module: nn.Module, args: Args, kwargs: Kwargs) -> None:
        self._labels = Arguments(module, args, kwargs).tensor("labels")

    def _see_tokens(self, module: nn.Module, args: Args, kwargs: Kwargs) -> None:
        call = Arguments(module, args, kwargs)
        labels, self._labels = self._labels, None
        self.tokens, self.slots = call.size[1], None
        if call.past or self.ends is None:
            return
        prompt = prompt_mask(call.size, call.tensor("attention_mask"), labels, call.device)
        at = torch.arange(self.tokens, device=call.device)
        length = prompt.sum(1, keepdim=True)
        start = torch.where(prompt, at, self.tokens).amin(1, keepdim=True)
        self.slots = _slots(start, length, *self.ends)


def prompt_mask(
    size: tuple[int, int], mask: Tensor | None, labels: Tensor | None, device: torch.device
) -> Bool[Tensor, "batch tokens"]:
    """Return which tokens of a call belong to the prompt.

    Args:
        size: Number of sequences, and of tokens in each.
        mask: Attention mask; ignored unless it is `(batch, tokens)`.
        labels: Labels with -100 for tokens without one; ignored unless they are `(batch, tokens)`.
        device: Device of the result.
    """
    padded = mask is not None and mask.ndim == 2
    prompt = mask.bool() if mask is not None and padded else torch.ones(size, dtype=torch.bool, device=device)
    if labels is not None and labels.shape == prompt.shape:
        labelled = labels != -100
        before = prompt & (labelled.cumsum(1) == 0) & labelled.any(1, keepdim=True)
        prompt = torch.where(before.any(1, keepdim=True), before, prompt)
    return prompt


def _slots(
    start: Int[Tensor, "batch 1"], length: Int[Tensor, "batch 1"], p: int, s: int
) -> tuple[Int[Tensor, "batch slots"], Bool[Tensor, "batch slots"]]:
    """Return `p + s` positions of each prompt and which of them are in use.

    A prompt shorter than `p + s` is divided between its two ends in halves, so that no position is edited twice.
    """
    short = length < p + s
    from_start, from_end = torch.arange(p, device=start.device), torch.arange(s, device=start.device)
    most_start = torch.where(short, torch.div(length, 2, rounding_mode="floor").clamp(max=p), p)
    most_end = torch.where(short, torch.div(length + 1, 2, rounding_mode="floor").clamp(max=s), s)
    used = torch.cat([from_start < most_start, from_end < most_end], dim=1)
    positions = torch.cat([start + from_start, start + length - 1 - from_end], dim=1)
    return torch.where(used, positions, 0), used


class ResidualPlace(Place):
    """The residual stream after one block.

    Args:
        adapter: The method.
        decoder: The decoder.
        block: The block.
        positions: The edited positions, one object for all blocks.
    """

    def __init__(self, adapter: ResidualAdapter, decoder: Decoder, block: Block, positions: Positions) -> None:
        self.adapter, self.decoder, self.block, self.positions = adapter, decoder, block, positions

    @property
    def like(self) -> Tensor:
        return next(p for p in self.block.module.parameters() if p.is_floating_point())

    @property
    def shape(self) -> tuple[int, int]:
        return self.decoder.width, self.decoder.width

    @property
    def names(self) -> Collection[str]:
        return site_names(self.block.module, RESIDUAL_SITES)

    def init(self, context: Context) -> State:
        return self.adapter.init(self.decoder.width, context)

    def install(self, state: State, name: str) -> ResidualSite:
        return ResidualSite(self, state, name)


class ResidualSite(Site):
    """A `ResidualAdapter` after one block.

    Args:
        place: The block.
        state: The method's state for it.
        name: Name of the adapter.
    """

    def __init__(self, place: ResidualPlace, state: State, name: str) -> None:
        super().__init__(state)
        self.adapter, self.positions = place.adapter, place.positions
        # In a tuple, since `nn.Module` would register the block as a submodule.
        self._block = (place.block.module,)
        self._hook = place.block.module.register_forward_hook(self._edit)
        add_site(place.block.module, RESIDUAL_SITES, name, self)
        self.positions.watch(place.decoder)

    def remove(self) -> None:
        self._hook.remove()
        self.positions.release()
        remove_site(self._block[0], RESIDUAL_SITES, self)

    def _edit(self, module: nn.Module, args: Args, output: Output) -> Output:
        slots = self.positions.slots
        if not self.active or (self.positions.ends is not None and slots is None):
            return output
        hidden: Tensor = output[0] if isinstance(output, tuple) else output
        edited = self._edit_all(hidden) if slots is None else self._edit_slots(hidden, *slots)
        return (edited, *output[1:]) if isinstance(output, tuple) else edited

    def _edit_all(self, hidden: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
        change = self.adapter.change(self.state, hidden.to(self.dtype), self.strength)
        return hidden + change.to(hidden.dtype)

    def _edit_slots(
        self,
        hidden: Float[Tensor, "batch tokens width"],
        positions: Int[Tensor, "batch slots"],
        used: Bool[Tensor, "batch slots"],
    ) -> Float[Tensor, "batch tokens width"]:
        # Counted from the end, since a prompt of another adapter may precede the user's tokens.
        index = (positions.to(hidden.device) + hidden.shape[1] - self.positions.tokens)[..., None]
        index = index.expand(-1, -1, hidden.shape[2])
        change = self.adapter.change(self.state, hidden.gather(1, index).to(self.dtype), self.strength)
        return hidden.scatter_add(1, index, (change * used.to(hidden.device)[..., None]).to(hidden.dtype))
