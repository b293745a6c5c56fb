"""Layers whose weight another module reads without calling them: adapted, merged and read, they are one weight."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    MambaConfig,
    MambaForCausalLM,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from adapterlab.errors import AdapterlabError
from adapterlab.surgery import attach
from adapterlab.surgery.model.readers import readers_of
from adapterlab.surgery.rows import adapter_rows
from tests.adapters.methods import LINEAR, SHIPPED, noisy, small
from tests.surgery.test_attach import bits, same_bits

VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "image_size": 8,
    "patch_size": 4,
}
IMAGES = torch.linspace(-1, 1, 2 * 3 * 8 * 8).view(2, 3, 8, 8)


def mamba():
    config = MambaConfig(
        vocab_size=64,
        hidden_size=32,
        state_size=4,
        num_hidden_layers=2,
        time_step_rank=4,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = MambaForCausalLM(config).eval()
    return model, lambda: model(torch.arange(12).view(2, 6)).logits


def siglip():
    model = SiglipVisionModel(SiglipVisionConfig(**VISION)).eval()
    return model, lambda: model(IMAGES).pooler_output


def clip():
    model = CLIPVisionModel(CLIPVisionConfig(**VISION)).eval()
    return model, lambda: model(IMAGES).pooler_output


def encoder():
    layer = nn.TransformerEncoderLayer(32, 4, 48, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    x = torch.linspace(-1, 1, 2 * 6 * 32).view(2, 6, 32)
    return model, lambda: model(x)


def decoder():
    model = nn.TransformerDecoder(nn.TransformerDecoderLayer(32, 4, 48, batch_first=True), 1).eval()
    x = torch.linspace(-1, 1, 2 * 6 * 32).view(2, 6, 32)
    return model, lambda: model(x, x.flip(1))


MODELS = [mamba, siglip, clip, encoder, decoder]
METHODS = [*LINEAR, "full_ft", "bitfit", "ln_tuning"]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("make", MODELS)
def test_merged_is_what_ran(make, name):
    torch.manual_seed(0)
    model, run = make()
    method = small(name)
    with torch.no_grad():
        before, answer = bits(model), run()
        handle = attach(model, method)
        noisy(handle.parameters(), 0.1)
        adapted = run()
        assert (adapted - answer).abs().max() > 1e-3
        handle.merge()
        torch.testing.assert_close(run(), adapted, rtol=1e-4, atol=1e-5)
        handle.unmerge()
        with handle.disabled():
            torch.testing.assert_close(run(), answer, rtol=1e-5, atol=1e-6)
        handle.detach()
        assert same_bits(bits(model), before)
        assert torch.equal(run(), answer)


@pytest.mark.parametrize(("make", "target"), [(mamba, "dt_proj"), (siglip, "out_proj"), (encoder, "out_proj")])
def test_a_layer_that_is_only_read_learns(make, target):
    torch.manual_seed(0)
    model, run = make()
    handle = attach(model, small("lora"), target)
    run().square().mean().backward()
    assert handle.sites
    for site in handle.sites.values():
        assert site.b.grad.abs().max() > 0


@pytest.mark.filterwarnings("ignore:the adapter attached before is frozen")
def test_two_adapters_on_a_layer_that_is_read():
    torch.manual_seed(0)
    model, run = siglip()
    with torch.no_grad():
        answer = run()
        first, second = (attach(model, small(name), "head.attention.out_proj", name) for name in ("lora", "hra"))
        noisy(first.parameters())
        noisy(second.parameters())
        both = run()
        first.merge()
        second.merge()
        torch.testing.assert_close(run(), both, rtol=1e-4, atol=1e-5)
        second.detach()
        alone = run()
        first.unmerge()
        torch.testing.assert_close(run(), alone, rtol=1e-4, atol=1e-5)
        first.detach()
        assert torch.equal(run(), answer)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_padding_that_torch_would_turn_into_nested_tensors():
    torch.manual_seed(0)
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 48, batch_first=True), 2).eval()
    x, padding = torch.randn(2, 6, 32), torch.tensor([[False] * 6, [False] * 4 + [True] * 2])

    def run():
        with torch.no_grad():
            return model(x, src_key_padding_mask=padding)[~padding]

    handle = attach(model, small("lora"))
    noisy(handle.parameters())
    adapted = run()
    handle.merge()
    torch.testing.assert_close(run(), adapted, rtol=1e-4, atol=1e-5)


def test_rows_cannot_differ_in_a_weight_that_is_read():
    model, run = siglip()
    attach(model, small("lora"), "head.attention.out_proj", name="a")
    with adapter_rows(model, ["a", "base"]), pytest.raises(AdapterlabError, match="MultiheadAttention reads a layer's"):
        run()
    with torch.no_grad():
        assert run().isfinite().all()


def test_a_mixture_leaves_such_a_layer_out_by_name():
    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x):
            return self.helper(x)

        def helper(self, x):
            assert self.inner.weight.dtype == x.dtype
            return x @ self.inner.weight

    model = nn.Sequential(Reads())
    assert list(readers_of(model)) == ["0.inner"]
    with pytest.raises(
        AdapterlabError, match=r"0\.inner: Reads reads the layer's weight without calling the layer, which poly"
    ):
        attach(model, small("poly"), "inner")


def test_questions_about_a_weight_do_not_count():
    class Asks(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)
            self.other = nn.Linear(4, 4)

        def forward(self, x):
            if isinstance(self.inner.weight, nn.Parameter) and self.other.bias is not None:
                x = x.to(self.inner.weight.dtype)
            return self.other(self.inner(x))

        def unused(self, x):
            return x @ self.other.weight

    assert not readers_of(Asks())


def test_every_method_was_tried():
    assert {m for m in SHIPPED if SHIPPED[m].mergeable} - set(METHODS) == {"clover", "trainable_tokens"}
