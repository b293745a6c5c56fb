"""ReFT against its formula, built naively on the model's own blocks."""

from __future__ import annotations

import pytest
import torch

from adapterlab.adapters import adapter
from adapterlab.surgery import attach
from tests.adapters.methods import noisy
from tests.conftest import tiny_llama


def positions_of(length, start, end, everywhere):
    """Which slot edits which position: the paper's rule, section 4."""
    if everywhere:
        return dict.fromkeys(range(length), 0)
    if length < start + end:
        start, end = min(start, length // 2), min(end, (length + 1) // 2)
    return {j: ("start", j) for j in range(start)} | {length - 1 - j: ("end", j) for j in range(end)}


@pytest.mark.parametrize("variant", ["loreft", "direft", "direft_orthonormal"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("start", "end", "everywhere"), [(2, 1, False), (0, 3, False), (5, 5, False), (1, 1, True)])
def test_the_edits_are_those_of_the_formula(variant, tied, start, end, everywhere):
    if everywhere and not tied:
        return
    model = tiny_llama().double()
    tokens = torch.randint(0, 64, (1, 7), generator=torch.Generator().manual_seed(4))
    method = adapter(
        "reft",
        rank=2,
        variant=variant,
        layers=(1,),
        start=start,
        end=end,
        where="everywhere" if everywhere else "prompt",
        tied=tied,
    )
    handle = attach(model, method)
    noisy(handle.parameters())
    handle.strength = 0.75
    (site,) = handle.sites.values()
    answer = model(tokens).logits

    with handle.disabled():
        stream = model(tokens, output_hidden_states=True).hidden_states[1]
        rotary = model.model.rotary_emb(stream, torch.arange(7)[None])
        stream = model.model.layers[1](stream, position_embeddings=rotary)[0]
    edited = [h.clone() for h in stream]
    for position, slot in positions_of(7, start, end, everywhere).items():
        which = 0 if tied or everywhere else (slot[1] if slot[0] == "start" else start + slot[1])
        r, w, b = (t[which] for t in (method.subspace(site.state), site.w, site.b))
        h = stream[position]
        target = w @ h + b - r @ h if variant == "loreft" else w @ h + b
        edited[position] = h + 0.75 * r.T @ target
    expected = model.lm_head(model.model.norm(torch.stack(edited)))
    torch.testing.assert_close(answer[0], expected, rtol=1e-9, atol=1e-10)
