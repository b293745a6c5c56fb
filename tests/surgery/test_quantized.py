"""Quantized bases of bitsandbytes and torchao: every linear method trains on them, and DoRA's outputs are PEFT's."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model, replace_lora_weights_loftq
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, TorchAoConfig

import adapterlab
from adapterlab.errors import AdapterlabError
from adapterlab.surgery import parameter_count
from adapterlab.surgery.model.dequantize import dequantized
from adapterlab.surgery.model.fingerprint import difference, fingerprint
from tests.adapters.methods import LINEAR, noisy, small
from tests.conftest import tiny_llama

bitsandbytes = pytest.importorskip("bitsandbytes")
torchao = pytest.importorskip("torchao.quantization")
PerGroup = pytest.importorskip("torchao.quantization.granularity").PerGroup
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

CONFIGS = {
    "nf4": lambda: BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
    "double": lambda: BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="fp4", bnb_4bit_use_double_quant=True),
    "int8": lambda: BitsAndBytesConfig(load_in_8bit=True),
    "torchao": lambda: TorchAoConfig(torchao.Int8WeightOnlyConfig()),
    # Int4WeightOnlyConfig needs a library for GPUs; this one has the same numbers and runs anywhere.
    "torchao4": lambda: TorchAoConfig(torchao.IntxWeightOnlyConfig(torch.int4, granularity=PerGroup(32))),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    tiny_llama(hidden_size=64, intermediate_size=128, tie_word_embeddings=False).save_pretrained(folder)
    return folder


def loaded(base, kind):
    settings = {"device_map": {"": "cpu"}, "dtype": torch.float32}
    return in_float32(AutoModelForCausalLM.from_pretrained(base, quantization_config=CONFIGS[kind](), **settings))


def in_float32(model):
    """The model with 4-bit layers that do not compute in bfloat16, as they do in evaluation mode on some processors."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_dequantized_weight_is_the_map_that_the_layer_computes(base, kind):
    layer = loaded(base, kind).model.layers[0].mlp.down_proj
    x = torch.randn(3, 128, generator=torch.Generator().manual_seed(0))
    for _ in range(2):  # the first call of an 8-bit layer moves its scales
        weight = dequantized(layer).float()
        torch.testing.assert_close(layer(x).float(), x @ weight.T, rtol=2e-2, atol=2e-2 if kind == "int8" else 1e-3)


@pytest.mark.parametrize("kind", ["nf4", "double"])
def test_a_weight_whose_codes_were_reordered_for_the_processor_is_the_same(base, kind):
    """Evaluation reorders them in place on a processor with bfloat16 instructions, and rounds the scales to bfloat16."""
    model = loaded(base, kind)
    layer = model.model.layers[0].mlp.down_proj
    before, known = dequantized(layer), fingerprint(model)
    pack = bitsandbytes.functional._convert_weight_packed_for_cpu
    layer.weight.data, layer.weight.quant_state = pack(layer.weight.data, layer.weight.quant_state)
    for _ in range(2):  # reading it changes nothing
        torch.testing.assert_close(dequantized(layer).float(), before.float(), rtol=2**-8, atol=0)
    assert difference(known, fingerprint(model)) is None


SOME = ["lora", "dora", "hra", "oft", "pissa"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, "nf4") for name in LINEAR] + [(name, kind) for name in SOME for kind in ("int8", "torchao", "torchao4")],
)
def test_every_method_trains_as_on_the_dequantized_base(name, kind, base, tokens):
    """The oracle is the same method on a plain model that holds the dequantized weights."""
    model, plain = loaded(base, kind), AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        for path, module in model.named_modules():
            if isinstance(module, torch.nn.Linear) and path != "lm_head":
                plain.get_submodule(path).weight.copy_(dequantized(module))
    handles = [adapterlab.attach(m, small(name)) for m in (model, plain)]
    for site, other in zip(*(handle.sites.values() for handle in handles), strict=True):
        for key, tensor in other.state_dict().items():
            site.state_dict()[key].copy_(tensor)  # an SVD of a weight rounded otherwise may have other signs
    for handle in handles:
        noisy(handle.parameters(), 0.05)
    outputs = [m(input_ids=tokens, labels=tokens) for m in (model, plain)]
    bound = 3e-2 if kind == "int8" else 1e-3  # bitsandbytes rounds the inputs of an 8-bit layer too
    torch.testing.assert_close(outputs[0].logits, outputs[1].logits, rtol=bound, atol=bound)
    for output in outputs:
        output.loss.backward()
    gradients = [torch.cat([p.grad.flatten() for p in h.parameters() if p.grad is not None]) for h in handles]
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.98
    assert gradients[0].norm() > 0
    with pytest.raises(AdapterlabError, match="holds quantized weights: nothing can be added to them"):
        handles[0].merge()
    answer = loaded(base, kind)(tokens).logits
    handles[0].detach()
    torch.testing.assert_close(model(tokens).logits, answer)


def kept(model, tokens):
    """Sizes of the floating-point tensors that the graph of a forward pass keeps."""
    sizes: list[int] = []

    def pack(tensor):
        if not tensor.is_meta and tensor.is_floating_point() and not isinstance(tensor, torch.nn.Parameter):
            sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(input_ids=tokens[:1, :3], labels=tokens[:1, :3]).loss  # noqa: B018
    return sizes


@pytest.mark.parametrize("name", ["lora", "dora", "hra", "oft", "pissa", "ssvd", "boft", "delora"])
def test_no_dequantized_weight_is_kept_for_the_backward_pass(name, base, tokens):
    model = loaded(base, "nf4")
    adapterlab.attach(model, small(name))
    weights = {64 * 128, 32 * 64}  # 64 * 64 is the unquantized head, too
    own = {t.numel() for site in model.modules() if hasattr(site, "_derived") for t in site.state.tensors()}
    assert not (weights - own) & set(kept(model, tokens))


@pytest.mark.parametrize("kind", ["nf4", "double", "int8"])
def test_dora_gives_the_outputs_of_pefts_qdora(kind, base, tokens):
    ours, other = loaded(base, kind), loaded(base, kind)
    handle = adapterlab.attach(ours, adapterlab.adapter("dora", rank=4, alpha=8.0))
    theirs = get_peft_model(other, LoraConfig(r=4, lora_alpha=8, use_dora=True, target_modules="all-linear")).eval()
    modules = {name.removeprefix("base_model.model."): module for name, module in theirs.named_modules()}
    for path, site in handle.sites.items():
        theirs_at = modules[path]
        magnitude = theirs_at.lora_magnitude_vector["default"].weight
        torch.testing.assert_close(site.magnitude, magnitude.float(), rtol=2e-3, atol=2e-3)
    noisy(handle.parameters(), 0.1)
    with torch.no_grad():
        for path, site in handle.sites.items():
            modules[path].lora_A["default"].weight.copy_(site.a)
            modules[path].lora_B["default"].weight.copy_(site.b)
            modules[path].lora_magnitude_vector["default"].weight.copy_(site.magnitude)
    bound = 1e-2 if kind == "int8" else 1e-3
    outputs = [m(input_ids=tokens, labels=tokens) for m in (ours, theirs)]
    torch.testing.assert_close(outputs[0].logits, outputs[1].logits, rtol=bound, atol=bound)
    for output in outputs:
        output.loss.backward()
    found = torch.cat([site.a.grad.flatten() for site in handle.sites.values()])
    expected = torch.cat([modules[path].lora_A["default"].weight.grad.flatten() for path in handle.sites])
    assert torch.nn.functional.cosine_similarity(found, expected, dim=0) > 0.99


@pytest.mark.parametrize("name", ["lora", "dora", "pissa", "svft"])
def test_a_saved_adapter_is_loaded_onto_the_quantized_base(name, base, tokens, tmp_path):
    model = loaded(base, "nf4")
    handle = adapterlab.attach(model, small(name))
    assert handle.parameter_count == parameter_count(loaded(base, "nf4"), small(name))
    noisy(handle.parameters(), 0.05)
    model.save_pretrained(tmp_path)
    other = loaded(base, "nf4")
    adapterlab.load(other, tmp_path)
    assert torch.equal(other(tokens).logits, model(tokens).logits)
    assert set(handle.deltas()) == set(handle.sites)


def test_a_quantized_head_cannot_be_trained(base):
    with pytest.raises(AdapterlabError, match=r"down_proj\.weight holds quantized numbers, which cannot be trained"):
        adapterlab.attach(loaded(base, "nf4"), small("lora"), trained_too=["layers.0.mlp.down_proj"])


@pytest.mark.parametrize("name", ["lora", "dora", "pissa", "hra"])
@pytest.mark.parametrize("inputs", [torch.float32, torch.bfloat16])
def test_trained_parameters_in_bfloat16_are_computed_with_in_float32(name, inputs, tokens):
    """TRL converts the trained parameters on a quantized base, and not the buffers; the outputs keep the inputs' dtype."""
    model = tiny_llama(hidden_size=64, intermediate_size=128).to(inputs)
    handle = adapterlab.attach(model, small(name))
    noisy(handle.parameters(), 0.05)
    for parameter in handle.parameters():
        parameter.data = parameter.data.bfloat16()
    rounded = model(tokens).logits
    assert rounded.dtype == inputs
    for parameter in handle.parameters():
        parameter.data = parameter.data.float()
    torch.testing.assert_close(rounded, model(tokens).logits, rtol=1e-5, atol=1e-5 if inputs == torch.float32 else 2e-2)
    for parameter in handle.parameters():
        parameter.data = parameter.data.bfloat16()
    model(input_ids=tokens, labels=tokens).loss.backward()
    assert all(p.grad.dtype == torch.bfloat16 for p in handle.parameters())


def test_a_model_of_torchao_can_be_moved_with_an_adapter_attached(base):
    model = loaded(base, "torchao")
    handle = adapterlab.attach(model, small("lora"))
    model.to("cpu")
    handle.detach()


@pytest.mark.parametrize("of", ["folder", "model"])
def test_loftq_starts_as_pefts_and_nearer_to_the_original(of, base, tokens, monkeypatch):
    original = AutoModelForCausalLM.from_pretrained(base)
    ours, other = loaded(base, "nf4"), loaded(base, "nf4")
    quantized = ours(tokens).logits
    given = base if of == "folder" else original
    handle = adapterlab.attach(ours, adapterlab.adapter("lora", rank=8, alpha=8.0, start="loftq"), original=given)
    theirs = get_peft_model(other, LoraConfig(r=8, lora_alpha=8, target_modules="all-linear")).eval()
    to = torch.Tensor.to
    with monkeypatch.context() as patch:  # PEFT computes it on a GPU
        patch.setattr(torch.Tensor, "to", lambda t, device, dtype: to(t, "cpu", dtype))
        replace_lora_weights_loftq(theirs, str(base / "model.safetensors"))
    for path, site in handle.sites.items():
        layer = theirs.get_submodule(f"base_model.model.{path}")
        known = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        torch.testing.assert_close(site.state["b"] @ site.state["a"], known.float(), rtol=1e-3, atol=1e-5)
    exact = original(tokens).logits
    assert (ours(tokens).logits - exact).norm() < 0.9 * (quantized - exact).norm()


def test_loftq_with_another_scale_has_the_same_product(base):
    states = []
    for alpha in (8.0, 16.0):
        method = adapterlab.adapter("lora", rank=8, alpha=alpha, start="loftq")
        handle = adapterlab.attach(loaded(base, "nf4"), method, original=base)
        states.append([method.scale * site.state["b"] @ site.state["a"] for site in handle.sites.values()])
    torch.testing.assert_close(*states)


@pytest.mark.parametrize(
    ("original", "message"),
    [
        (None, "needs the model before quantization"),
        ("nowhere", "nowhere holds no weight of model.layers.0.self_attn.q_proj as safetensors"),
        ("other", "original: its weight of model.layers.0.self_attn.q_proj is not the one that was quantized here"),
    ],
)
def test_loftq_needs_the_original(original, message, base, tokens):
    other = tiny_llama(hidden_size=64, intermediate_size=128, seed=7)
    model = loaded(base, "nf4")
    before = model(tokens).logits
    given = other if original == "other" else original
    with pytest.raises(AdapterlabError, match=message):
        adapterlab.attach(model, adapterlab.adapter("lora", rank=8, start="loftq"), original=given)
    assert torch.equal(model(tokens).logits, before)


@pytest.mark.parametrize("kind", ["nf4", "int8", "torchao"])
def test_a_quantized_base_is_recognized(kind, base, tmp_path):
    adapterlab.attach(loaded(base, kind), small("lora")).save(tmp_path / "adapter")
    adapterlab.load(loaded(base, kind), tmp_path / "adapter")
    other = tiny_llama(seed=1, hidden_size=64, intermediate_size=128, tie_word_embeddings=False)
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(AdapterlabError, match=r"another base: in this model .* has other values"):
        adapterlab.load(loaded(tmp_path / "other", kind), tmp_path / "adapter")


def test_an_adapter_of_a_quantized_base_is_loaded_on_the_plain_one_with_a_warning(base, tmp_path):
    adapterlab.attach(loaded(base, "nf4"), small("lora")).save(tmp_path)
    with pytest.warns(UserWarning, match=r"stores .*q_proj\.weight in another way, quantized or not"):
        adapterlab.load(AutoModelForCausalLM.from_pretrained(base), tmp_path)
