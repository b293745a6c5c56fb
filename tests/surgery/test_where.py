"""The choice of the places of an adapter, and settings that differ between them."""

from __future__ import annotations

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, MixtralConfig

from adapterlab.adapters import State, adapter
from adapterlab.adapters.peft_layout import CannotExportError
from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.surgery import attach, load, load_peft
from adapterlab.surgery.handle import Handle
from tests.adapters.methods import ALL, noisy, small
from tests.conftest import tiny_gpt2, tiny_llama
from tests.surgery.test_attach import bits, same_bits, train


def blocks(handle: Handle) -> set[str]:
    return {path.split(".")[2] for path in handle.sites}


@pytest.mark.parametrize("name", ALL)
def test_a_typo_is_refused_by_every_method(name):
    model = tiny_llama(attention_bias=True)
    before, structure = bits(model), repr(model)
    with pytest.raises(UnknownNameError, match="unknown target 'q_porj' in LlamaForCausalLM"):
        attach(model, small(name), targets="q_porj")
    assert same_bits(bits(model), before)
    assert repr(model) == structure
    assert all(p.requires_grad for p in model.parameters())


CHOICES = [
    ("full_ft", {"targets": "q_proj"}, {"weight", "bias"}),
    ("full_ft", {"targets": ["embed_tokens"]}, {"weight"}),
    ("ln_tuning", {"targets": "input_layernorm"}, {"weight"}),
    ("bitfit", {"targets": "query"}, {"bias"}),
    ("reft", {"targets": "layers.1"}, {"1"}),
    ("prefix", {"targets": "model.layers.0.*"}, {"self_attn"}),
    ("clover", {"targets": "v_proj"}, {"value_output"}),
    (
        "lora",
        {"targets": "all-linear", "exclude": ["down", "k_proj"]},
        {"q_proj", "v_proj", "o_proj", "gate_proj", "up_proj"},
    ),
]


@pytest.mark.parametrize(("name", "choice", "endings"), CHOICES)
def test_every_kind_of_method_chooses_among_its_places(name, choice, endings, tokens):
    model = tiny_llama(attention_bias=True)
    handle = attach(model, small(name), **choice)
    assert {path.rsplit(".", 1)[-1] for path in handle.sites} == endings
    handle.detach()


@pytest.mark.parametrize("name", ["lora", "full_ft", "prefix", "clover", "poly"])
@pytest.mark.parametrize(("layers", "found"), [([1], {"1"}), ([-2], {"0"}), (range(2), {"0", "1"})])
def test_blocks_are_chosen_by_number(name, layers, found):
    handle = attach(tiny_llama(), small(name), layers=layers)
    handle.sites.pop("router", None)
    assert blocks(handle) == found


def test_a_block_that_does_not_exist_is_named(llama):
    with pytest.raises(AdapterlabError, match="layers: LlamaForCausalLM has the blocks 0 to 1, and no block 2"):
        attach(llama, small("lora"), layers=[2])


def test_a_choice_of_nothing_is_named(llama):
    with pytest.raises(AdapterlabError, match="leaves nothing of LlamaForCausalLM to adapt"):
        attach(llama, small("lora"), "q_proj", exclude="query")


def test_ranks_by_layer_are_pefts(tokens, tmp_path):
    """`settings` by target gives the ranks and scales of PEFT's `rank_pattern` and `alpha_pattern`."""
    ours, theirs = tiny_llama(), tiny_llama()
    patterns = {"down_proj": 5, "layers.0.self_attn.q_proj": 2}
    config = peft.LoraConfig(
        r=3, lora_alpha=6, target_modules="all-linear", rank_pattern=patterns, alpha_pattern={"down_proj": 20}
    )
    theirs = peft.get_peft_model(theirs, config)
    settings = {"down_proj": {"rank": 5, "alpha": 20.0}, "layers.0.self_attn.q_proj": {"rank": 2}}
    handle = attach(ours, adapter("lora", rank=3, alpha=6.0), settings=settings)
    assert handle.parameter_count == theirs.get_nb_trainable_parameters()[0]
    for path, site in handle.sites.items():
        layer = theirs.get_submodule(f"base_model.model.{path}")
        with torch.no_grad():
            layer.lora_B["default"].weight.normal_(generator=torch.Generator().manual_seed(0))
            site.a.copy_(layer.lora_A["default"].weight)
            site.b.copy_(layer.lora_B["default"].weight)
    answer = ours(tokens).logits
    torch.testing.assert_close(answer, theirs(tokens).logits, rtol=1e-5, atol=1e-5)
    handle.save(tmp_path)
    again = tiny_llama()
    load(again, tmp_path)
    assert torch.equal(again(tokens).logits, answer)


@pytest.mark.parametrize("name", ["lora", "loha", "dora"])
def test_ranks_by_layer_go_to_peft_and_come_back(name, tokens, tmp_path):
    model = tiny_llama(attention_bias=False)
    settings = {"down": {"rank": 5, "alpha": 2.0}, "layers.0.self_attn.q_proj": {"rank": 1}}
    handle = attach(model, adapter(name, rank=3, alpha=6.0), settings=settings)
    noisy(handle.parameters())
    answer = model(tokens).logits
    handle.export_peft(tmp_path, base="the-base")
    theirs = peft.PeftModel.from_pretrained(tiny_llama(attention_bias=False), str(tmp_path)).eval()
    torch.testing.assert_close(theirs(tokens).logits, answer, rtol=1e-4, atol=1e-5)
    again = tiny_llama(attention_bias=False)
    load_peft(again, tmp_path)
    torch.testing.assert_close(again(tokens).logits, answer, rtol=1e-4, atol=1e-5)


def test_an_export_that_would_lose_something_is_refused(tmp_path):
    handle = attach(tiny_llama(), small("hra"), settings={"down": {"rank": 2}})
    noisy(handle.parameters())
    assert handle.export_peft(tmp_path / "hra", base="the-base").kind == "LORA"  # HRA has one rank in PEFT
    handle.detach()
    handle = attach(tiny_llama(), small("lora"), ["embed_tokens", "q_proj"])
    with pytest.raises(CannotExportError, match=r"embed_tokens\.weight is no linear layer"):
        handle.export_peft(tmp_path / "lora", base="the-base")
    assert not (tmp_path / "lora").exists()


def test_settings_that_do_not_fit_are_named(llama):
    with pytest.raises(AdapterlabError, match="rank 900 does not fit"):
        attach(llama, small("lora"), settings={"down": {"rank": 900}})
    with pytest.raises(UnknownNameError, match="unknown setting 'rnak'"):
        attach(llama, small("lora"), settings={"down": {"rnak": 4}})
    with pytest.raises(UnknownNameError, match="unknown target 'dwon'"):
        attach(llama, small("lora"), settings={"dwon": {"rank": 4}})
    with pytest.raises(AdapterlabError, match="reft has the same settings everywhere"):
        attach(llama, small("reft"), settings={"layers.0": {"rank": 1}})


@pytest.mark.parametrize("where", [{}, {"target_modules": ["q_proj"]}])
def test_a_peft_model_is_refused(where):
    model = peft.get_peft_model(tiny_llama(), peft.LoraConfig(r=2, **({"target_modules": "all-linear"} | where)))
    before = bits(model)
    for wrapped in (model, model.base_model.model):
        with pytest.raises(AdapterlabError, match=r"has an adapter of PEFT attached: detach it, or call unload"):
            attach(wrapped, small("lora"))
    assert same_bits(bits(model), before)


MATRICES = [
    (tiny_llama, "embed_tokens", {}),
    (tiny_llama, "embed_tokens", {"tie_word_embeddings": False}),
    (tiny_llama, "lm_head", {}),
    (tiny_llama, "lm_head", {"tie_word_embeddings": False}),
    (tiny_gpt2, "wte", {}),
]


@pytest.mark.parametrize("name", ["lora", "dora", "pissa", "hra", "oft", "loha", "shira"])
@pytest.mark.parametrize(("make", "target", "settings"), MATRICES)
def test_embeddings_and_heads(make, target, settings, name, tokens, tmp_path):
    model = make(**settings)
    before, answer = bits(model), model(tokens).logits
    handle = attach(model, small(name), [target])
    assert len(handle.sites) == 1
    torch.testing.assert_close(model(tokens).logits, answer, rtol=1e-4, atol=1e-5)
    train(model, handle, tokens)
    adapted = model(tokens).logits
    assert not torch.allclose(adapted, answer, atol=1e-4)
    handle.merge()
    torch.testing.assert_close(model(tokens).logits, adapted, rtol=1e-4, atol=1e-5)
    tied = model.lm_head.weight is model.get_input_embeddings().weight
    assert tied == model.config.tie_word_embeddings
    handle.unmerge()
    handle.save_merged(tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(merged(tokens).logits, adapted, rtol=1e-4, atol=1e-5)
    handle.save(tmp_path)
    handle.detach()
    assert same_bits(bits(model), before)
    load(model, tmp_path)
    torch.testing.assert_close(model(tokens).logits, adapted)


@pytest.mark.parametrize("tied", [False, True])
def test_a_tied_weight_stays_one_weight(tied, tokens):
    """A tied head changes with the embeddings, as PEFT's `ensure_weight_tying` has it; PEFT's LoRA of an embedding gives
    the same logits if the head is not tied."""
    ours, theirs = tiny_llama(tie_word_embeddings=tied), tiny_llama(tie_word_embeddings=tied)
    handle = attach(ours, adapter("lora", rank=3, alpha=6.0), "embed_tokens")
    noisy(handle.parameters())
    site = handle.sites["model.embed_tokens.weight"]
    config = peft.LoraConfig(r=3, lora_alpha=6, target_modules=["embed_tokens"], ensure_weight_tying=tied)
    model = peft.get_peft_model(theirs, config)
    for layer in model.modules():
        if isinstance(layer, peft.tuners.lora.Embedding):
            with torch.no_grad():
                layer.lora_embedding_A["default"].copy_(site.b.T)
                layer.lora_embedding_B["default"].copy_(site.a.T)
    torch.testing.assert_close(ours(tokens).logits, model(tokens).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dimensions", [1, 2])
def test_convolutions_are_pefts(dimensions):
    def network():
        torch.manual_seed(0)
        conv = torch.nn.Conv1d if dimensions == 1 else torch.nn.Conv2d
        return torch.nn.Sequential(conv(3, 8, 3, padding=1), torch.nn.ReLU(), conv(8, 4, 3, stride=2))

    images = torch.randn(2, 3, *[9] * dimensions)
    ours = network()
    handle = attach(ours, adapter("lora", rank=2, alpha=4.0), ["0", "2"])
    noisy(handle.parameters())
    theirs = peft.get_peft_model(network(), peft.LoraConfig(r=2, lora_alpha=4, target_modules=["0", "2"]))
    for path, site in handle.sites.items():
        layer = theirs.get_submodule(f"base_model.model.{path.removesuffix('.weight')}")
        with torch.no_grad():
            a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            a.copy_(site.a.view_as(a))
            b.copy_(site.b.view_as(b))
    answer = ours(images)
    torch.testing.assert_close(answer, theirs(images), rtol=1e-5, atol=1e-5)
    handle.merge()
    torch.testing.assert_close(ours(images), answer, rtol=1e-5, atol=1e-5)


def mixture():
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=3,
    )
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("name", ["lora", "dora", "hra", "pissa", "oft", "ether", "svft", "c3a", "goft"])
def test_each_expert_has_an_adapter_of_its_own(name, tokens, tmp_path):
    model = mixture()
    before, answer = bits(model), model(tokens).logits
    handle = attach(model, small(name), ["gate_up_proj", "down_proj"], exclude="model.layers.1.*")
    assert {path.rsplit(".", 1)[1] for path in handle.sites} == {"gate_up_proj", "down_proj"}
    if handle.adapter.starts_as_base:
        torch.testing.assert_close(model(tokens).logits, answer, rtol=1e-4, atol=1e-5)
    train(model, handle, tokens)
    adapted = model(tokens).logits
    site = handle.sites["model.layers.0.mlp.experts.down_proj"]
    base, changed = site.base_and_adapted()
    for i, matrix in enumerate(base):
        parts = (site.state.trainable, site.state.frozen, site.state.derived)
        state = State(*({key: tensor[i] for key, tensor in part.items()} for part in parts))
        torch.testing.assert_close(changed[i], handle.adapter.weight(state, matrix))
    handle.merge()
    torch.testing.assert_close(model(tokens).logits, adapted, rtol=1e-4, atol=1e-5)
    handle.unmerge()
    handle.save(tmp_path)
    handle.detach()
    assert same_bits(bits(model), before)
    load(model, tmp_path)
    torch.testing.assert_close(model(tokens).logits, adapted)


def test_adalora_prunes_the_values_of_all_experts_together(tokens):
    model = mixture()
    method = adapter("adalora", rank=4, keep=0.25, total_steps=6, warmup_steps=1, final_steps=1, interval=1)
    targets = {"down_proj": {"rank": 2}}
    handle = attach(model, method, ["gate_up_proj", "down_proj", "q_proj"], settings=targets)
    optimizer = torch.optim.Adam(handle.parameters(), lr=1e-2)
    for step in range(6):
        optimizer.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        handle.after_step(step)
    values = {path: site.state["values"] for path, site in handle.sites.items()}
    assert values["model.layers.0.mlp.experts.down_proj"].shape == (3, 2)
    total = sum(v.numel() for v in values.values())
    assert sum(int((v != 0).sum()) for v in values.values()) == round(total / 4)
    assert all((site.state["sensitivity_p"] > 0).any() for site in handle.sites.values())


def test_loras_of_experts_are_pefts(tokens):
    """PEFT's `target_parameters`, with the same tensors."""
    ours, theirs = mixture(), mixture()
    handle = attach(ours, adapter("lora", rank=2, alpha=4.0), "mlp.experts.down_proj")
    noisy(handle.parameters())
    answer = ours(tokens).logits
    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=[], target_parameters=["mlp.experts.down_proj"])
    model = peft.get_peft_model(theirs, config)
    layers = [m for m in model.modules() if isinstance(m, peft.tuners.lora.layer.ParamWrapper)]
    for layer, site in zip(layers, handle.sites.values(), strict=True):
        delta = handle.adapter.scale * site.b @ site.a
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        with torch.no_grad():
            # PEFT keeps A as (experts * rank, in) and B as (out, rank * experts), the expert running fastest in B.
            a.copy_(site.a.flatten(0, 1))
            b.copy_(site.b.permute(1, 2, 0).flatten(1))
        torch.testing.assert_close(layer.get_delta_weight("default"), delta, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model(tokens).logits, answer, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("vblora", {}, "trains tensors that its sites share"),
        ("lora", {"dropout": 0.1}, "dropout needs the input of a linear layer"),
    ],
)
def test_methods_that_experts_cannot_have(name, settings, message):
    method = adapter(name, **settings) if settings else small(name)
    with pytest.raises(AdapterlabError, match=message):
        attach(mixture(), method, "mlp.experts.down_proj")
