"""`init` may read the base's weights and not write to them, by whatever road."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from adapterlab.adapters import LinearAdapter, State, Theme
from adapterlab.errors import AdapterlabError
from adapterlab.surgery import attach
from adapterlab.surgery.attach import initial_states
from adapterlab.surgery.model.where import ALL, Where
from adapterlab.surgery.sites.find import places_for
from tests.conftest import tiny_gpt2, tiny_llama


@dataclass(frozen=True)
class Editing(LinearAdapter):
    """A gain whose `init` does something to the weight, or to all weights at the same place, first."""

    name = "editing"
    title = "Editing"
    theme = Theme.GAIN
    claim = "None."
    paper = "https://example.org"

    edit: Callable[[Tensor], object] = lambda weight: None
    all_alike: bool = False

    def init(self, weight, context):
        for each in context.alike() if self.all_alike else [weight]:
            self.edit(each)
        return State({"gain": context.zeros(weight.shape[1])})

    def weight(self, state, weight, strength=1.0):
        return weight * (1 + strength * state["gain"])


def set_row(weight: Tensor) -> None:
    weight[0] = 1.0


def set_through_numpy(weight: Tensor) -> None:
    weight.detach().numpy()[0] = 1.0


def set_through_an_array(weight: Tensor) -> None:
    np.asarray(weight.detach().T)[0] *= 2


EDITS = {
    "mul_": lambda weight: weight.mul_(1.05),
    "a view": lambda weight: weight.T[1:].add_(1),
    "a row": set_row,
    ".data": lambda weight: weight.data.mul_(1.05),
    "a view of .data": lambda weight: weight.data.view_as(weight)[3:].zero_(),
    "detach": lambda weight: weight.detach().clamp_(-0.01, 0.01),
    "copy_": lambda weight: weight.copy_(weight.clone()),
    "out": lambda weight: torch.mul(weight, 2, out=weight),
    "foreach": lambda weight: torch._foreach_mul_([weight], 2.0),
    "initialization": lambda weight: torch.nn.init.normal_(weight),
    "index_put": lambda weight: weight.index_put_((torch.tensor([0]),), torch.tensor(1.0)),
    "numpy": set_through_numpy,
    "an array": set_through_an_array,
}


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_in_init_is_refused_in_one_line_and_nothing_is_changed(make, edit):
    model = make()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for adapter in (Editing(edit=EDITS[edit]), Editing(edit=EDITS[edit], all_alike=True)):
        with pytest.raises(AdapterlabError, match=r"^editing changes the base weight in place \(.*weight\.clone\(\)$"):
            attach(model, adapter)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert len(before) == len(model.state_dict())


READS = {
    "a copy": lambda weight: weight.clone().mul_(2),
    "a copy of a view": lambda weight: weight.T.contiguous().add_(1) if weight.shape[0] > 1 else None,
    "numpy": lambda weight: weight.detach().numpy().sum(),
    "a copy in numpy": lambda weight: np.array(weight.detach()).fill(0),
    "decompositions": lambda weight: (torch.linalg.svd(weight), torch.linalg.qr(weight)),
    "vmap": lambda weight: torch.func.vmap(lambda row: row.clone().mul_(2))(weight),
    "gradients": lambda weight: torch.func.grad(lambda w: (w**2).sum())(weight),
}


@pytest.mark.parametrize("read", READS)
def test_reading_and_editing_copies_is_allowed(read):
    model = tiny_gpt2() if read == "a copy" else tiny_llama()
    assert attach(model, Editing(edit=READS[read])).sites


def test_an_error_of_init_itself_is_left_as_it_is():
    def fail(weight: Tensor) -> None:
        raise ValueError("no such start")

    with pytest.raises(ValueError, match="no such start"):
        attach(tiny_llama(), Editing(edit=fail))


def test_the_weights_can_be_written_again_after_attach():
    model = tiny_llama()
    attach(model, Editing()).detach()
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.mul_(2)
        model.model.layers[0].mlp.up_proj.weight.numpy()[0] = 1.0


def test_states_of_a_loaded_adapter_are_made_under_the_same_guard():
    before = {name: tensor.clone() for name, tensor in tiny_llama().state_dict().items()}
    for edit in ("mul_", ".data", "numpy"):
        places = places_for(model := tiny_llama(), Editing(edit=EDITS[edit]), Where(ALL))
        with pytest.raises(AdapterlabError, match="changes the base weight in place"):
            initial_states(Editing(edit=EDITS[edit]), places)
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
