"""The residual stream after a block, edited at chosen positions of the prompt.

>>> from adapterlab.adapters import adapter
>>> from adapterlab.surgery.sites.find import places_for
>>> from transformers import LlamaConfig, LlamaForCausalLM
>>> shape = {"vocab_size": 32, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2}
>>> model = LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=2))
>>> list(places_for(model, adapter("reft")))
['model.layers.0', 'model.layers.1']
"""

from __future__ import annotations

from collections.abc import Collection

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad

from adapterlab.adapters.adapter_types import ResidualAdapter
from adapterlab.adapters.context import Context
from adapterlab.adapters.state import State
from adapterlab.surgery.model.call import Args, Output
from adapterlab.surgery.model.decoder import Block, Decoder
from adapterlab.surgery.model.submodules import RESIDUAL_SITES
from adapterlab.surgery.sites.base import Place, Site, add_site, remove_site, site_names
from adapterlab.surgery.sites.positions import Positions


def takes_answer_mask(model: nn.Module) -> bool:
    """Return True if an attached adapter edits positions of the prompt, so that a call may contain `ANSWER_MASK`.

    Args:
        model: A model.
    """
    return any(isinstance(m, ResidualSite) and m.positions.ends is not None for m in model.modules())


class ResidualPlace(Place):
    """The residual stream after one block.

    Args:
        adapter: The method.
        decoder: The decoder.
        block: The block.
        positions: The edited positions, one object for all blocks.
    """

    adapter: ResidualAdapter

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

    adapter: ResidualAdapter

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
        edited = self._edited(hidden, slots)
        return (edited, *output[1:]) if isinstance(output, tuple) else edited

    def _edited(
        self, hidden: Float[Tensor, "batch positions width"], slots: Int[Tensor, "batch tokens"] | None
    ) -> Float[Tensor, "batch positions width"]:
        if slots is None:
            return hidden + self.adapter.change(self.working_state, hidden.to(self.dtype), None, self.strength).to(
                hidden.dtype
            )
        # A prompt of another adapter may precede the user's tokens.
        slots = pad(slots.to(hidden.device), (hidden.shape[1] - slots.shape[1], 0), value=-1)
        change = self.adapter.change(self.working_state, hidden.to(self.dtype), slots, self.strength)
        return hidden + (change * (slots >= 0)[..., None]).to(hidden.dtype)
