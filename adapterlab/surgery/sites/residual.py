"""The residual stream behind a block, edited at chosen positions of the prompt."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, cast

import torch
from torch import Tensor, nn

from adapterlab.adapters.adapter_types import ResidualAdapter
from adapterlab.adapters.base import Context, State
from adapterlab.surgery.model.decoder import Arguments, Block, Decoder
from adapterlab.surgery.model.submodules import RESIDUAL_SITES
from adapterlab.surgery.sites.base import Place, Site, add_site, remove_site, site_names


class Positions:
    """Where the edits of one adapter fall in the present call: one for all its sites.

    The prompt is what stands before the first labelled token, all that is not padding where nothing is labelled or the first
    token is. A call that goes on from a filled cache has no prompt.
    """

    def __init__(self, ends: tuple[int, int] | None) -> None:
        self.ends = ends
        self.users = 0
        self.tokens = 0
        self.slots: tuple[Tensor, Tensor] | None = None
        self._labels: Tensor | None = None
        self._leave: list[Callable[[], None]] = []

    def watch(self, decoder: Decoder) -> None:
        """Begin to look at the calls of the model, for one more site."""
        self.users += 1
        if self.users == 1 and self.ends is not None:
            # Before any prompt is put in, so that positions are those of the user's tokens.
            options = {"with_kwargs": True, "prepend": True}
            hooks = [decoder.backbone.register_forward_pre_hook(self._see_tokens, **options)]
            if decoder.model is not decoder.backbone:
                hooks.append(decoder.model.register_forward_pre_hook(self._see_labels, **options))
            self._leave = [hook.remove for hook in hooks]

    def release(self) -> None:
        """One site less."""
        self.users -= 1
        if not self.users:
            for leave in self._leave:
                leave()

    def _see_labels(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._labels = Arguments(module, args, kwargs)["labels"]

    def _see_tokens(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        call = Arguments(module, args, kwargs)
        labels, self._labels = self._labels, None
        batch, self.tokens = call.size
        if call.past:
            self.slots = None
            return
        at = torch.arange(self.tokens, device=call.device)
        mask = call["attention_mask"]
        padded = isinstance(mask, Tensor) and mask.ndim == 2
        prompt = mask.bool() if padded else torch.ones(batch, self.tokens, dtype=torch.bool, device=call.device)
        if labels is not None and labels.shape == prompt.shape:
            unlabelled = prompt & ((labels != -100).cumsum(1) == 0) & (labels != -100).any(1, keepdim=True)
            prompt = torch.where(unlabelled.any(1, keepdim=True), unlabelled, prompt)
        length = prompt.sum(1, keepdim=True)
        start = torch.where(prompt, at, self.tokens).amin(1, keepdim=True)
        self.slots = _slots(start, length, *cast("tuple[int, int]", self.ends))


def _slots(start: Tensor, length: Tensor, p: int, s: int) -> tuple[Tensor, Tensor]:
    """`(batch, p + s)` positions and which of them count; a prompt shorter than `p + s` is halved between the two ends."""
    short = length < p + s
    from_start, from_end = torch.arange(p, device=start.device), torch.arange(s, device=start.device)
    most_start = torch.where(short, torch.div(length, 2, rounding_mode="floor").clamp(max=p), p)
    most_end = torch.where(short, torch.div(length + 1, 2, rounding_mode="floor").clamp(max=s), s)
    counts = torch.cat([from_start < most_start, from_end < most_end], dim=1)
    positions = torch.cat([start + from_start, start + length - 1 - from_end], dim=1)
    return torch.where(counts, positions, 0), counts


class ResidualPlace(Place):
    """The stream behind one block."""

    def __init__(self, decoder: Decoder, block: Block, positions: Positions) -> None:
        self.decoder, self.block, self.positions = decoder, block, positions

    @property
    def like(self) -> Tensor:
        return next(p for p in self.block.module.parameters() if p.is_floating_point())

    @property
    def shape(self) -> tuple[int, int]:
        return self.decoder.width, self.decoder.width

    @property
    def names(self) -> Collection[str]:
        return site_names(self.block.module, RESIDUAL_SITES)

    def init(self, adapter: ResidualAdapter, context: Context) -> State:
        return adapter.init(self.decoder.width, context)

    def install(self, adapter: ResidualAdapter, state: State, name: str) -> ResidualSite:
        return ResidualSite(adapter, state, self, name)


class ResidualSite(Site):
    """A `ResidualAdapter` behind one block."""

    def __init__(self, adapter: ResidualAdapter, state: State, place: ResidualPlace, name: str) -> None:
        super().__init__(state)
        self.adapter, self.positions = adapter, place.positions
        self._block = (place.block.module,)
        self._hook = place.block.module.register_forward_hook(self._edit)
        add_site(place.block.module, RESIDUAL_SITES, name, self)
        self.positions.watch(place.decoder)

    def remove(self) -> None:
        self._hook.remove()
        self.positions.release()
        remove_site(self._block[0], RESIDUAL_SITES, self)

    def _edit(self, module: nn.Module, args: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        if not self.active or (self.positions.ends is not None and self.positions.slots is None):
            return output
        edited = self._everywhere(hidden) if self.positions.ends is None else self._at_slots(hidden)
        return (edited, *output[1:]) if isinstance(output, tuple) else edited

    def _everywhere(self, hidden: Tensor) -> Tensor:
        change = self.adapter.change(self.state, hidden.to(self.dtype), self.strength)
        return hidden + change.to(hidden.dtype)

    def _at_slots(self, hidden: Tensor) -> Tensor:
        positions, counts = (t.to(hidden.device) for t in cast("tuple[Tensor, Tensor]", self.positions.slots))
        # Counted from the end, since a prompt of another adapter may stand before the user's tokens.
        index = (positions + hidden.shape[1] - self.positions.tokens)[..., None].expand(-1, -1, hidden.shape[2])
        change = self.adapter.change(self.state, hidden.gather(1, index).to(self.dtype), self.strength)
        return hidden.scatter_add(1, index, (change * counts[..., None]).to(hidden.dtype))
