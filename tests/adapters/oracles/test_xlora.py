"""X-LoRA against its formula for each token, and against PEFT.

PEFT's module is the authors' own, with one mistake of theirs mended: they normalized the shares of the largest experts over
all tokens of a batch together (`enable_softmax_topk`). PEFT's temperature does nothing there; here it divides the logits of
every softmax.
"""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, XLoraConfig, get_peft_model

from adapterlab.adapters import adapter
from adapterlab.surgery import attach
from tests.adapters.methods import noisy
from tests.adapters.oracles.descent import ADAMW, SGD, agree, descend, same_descent
from tests.adapters.oracles.models import lively, loss_of
from tests.conftest import tiny_gpt2, tiny_llama

TARGETS = ["q_proj", "v_proj", "down_proj"]


def llama():
    model = lively(tiny_llama())
    model.config.use_cache = False
    return model


def in_peft(handle, experts, folder, **settings):
    """PEFT's model with the same experts and router."""
    router, *sites = handle.sites.values()
    lora = get_peft_model(llama(), LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=4, target_modules=TARGETS))
    layers = [m for m in lora.modules() if hasattr(m, "lora_A") and hasattr(m, "base_layer")]
    for expert in range(experts):
        with torch.no_grad():
            for site, layer in zip(sites, layers, strict=True):
                layer.lora_A["default"].weight.copy_(site.a[expert])
                layer.lora_B["default"].weight.copy_(site.b[expert])
        lora.save_pretrained(folder / str(expert))
    config = XLoraConfig(
        task_type="CAUSAL_LM",
        hidden_size=32,
        adapters={str(i): str(folder / str(i)) for i in range(experts)},
        xlora_dropout_p=0.0,
        **settings,
    )
    theirs = get_peft_model(llama(), config).double().eval()
    linears = [m for m in theirs.base_model.internal_xlora_classifier.layers if isinstance(m, torch.nn.Linear)]
    with torch.no_grad():
        for i, linear in enumerate(linears):
            linear.weight.copy_(getattr(router, f"w{i}"))
            linear.bias.copy_(getattr(router, f"b{i}"))
    layers = [m for m in theirs.modules() if hasattr(m, "lora_A") and hasattr(m, "base_layer")]
    pairs = [
        (getattr(router, f"{k}{i}"), t) for i, m in enumerate(linears) for k, t in (("w", m.weight), ("b", m.bias))
    ]
    both = [(s, m, e) for s, m in zip(sites, layers, strict=True) for e in range(experts)]
    return (
        theirs,
        pairs,
        [
            *((s, "a", e, m.lora_A[str(e)].weight) for s, m, e in both),
            *((s, "b", e, m.lora_B[str(e)].weight) for s, m, e in both),
        ],
    )


@pytest.mark.parametrize(
    ("experts", "ours", "theirs"),
    [
        (3, {}, {}),
        (2, {"layerwise": True, "temperature": 0.5}, {"layerwise_scalings": True, "softmax_temperature": 0.5}),
        (5, {"depth": 2, "hidden": 6}, {"xlora_depth": 2, "xlora_size": 6}),
        (
            3,
            {"depth": 3, "hidden": 10, "weight": 2.0, "layerwise": True},
            {"xlora_depth": 3, "xlora_size": 10, "global_scaling_weight": 2.0, "layerwise_scalings": True},
        ),
        (3, {"top_k": 2}, {"top_k_lora": 2}),
        (4, {"top_k": 2, "renormalize": True}, {"top_k_lora": 2, "enable_softmax_topk": True, "enable_softmax": False}),
        (3, {"train_experts": False, "depth": 2, "hidden": 6}, {"xlora_depth": 2, "xlora_size": 6}),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_model_trains_as_in_peft(experts, ours, theirs, tokens, tmp_path):
    model = llama()
    trained_experts = ours.get("train_experts", True)
    handle = attach(model, adapter("xlora", experts=experts, rank=2, alpha=4.0, **ours), targets=TARGETS)
    noisy([p for s in handle.sites.values() for p in (*s.parameters(), *s.buffers())], 0.3)
    other, pairs, by_expert = in_peft(handle, experts, tmp_path, use_trainable_adapters=trained_experts, **theirs)
    agree(model(input_ids=tokens).logits, other(input_ids=tokens).logits)
    trained = [p for p in other.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == handle.parameter_count

    gradients = []
    for m, leaves in ((model, list(handle.parameters())), (other, trained)):
        gradients.append(torch.autograd.grad(loss_of(m(input_ids=tokens).logits, tokens), leaves))
    agree(sum(g.square().sum() for g in gradients[0]), sum(g.square().sum() for g in gradients[1]))
    same_descent(
        descend(lambda: loss_of(model(input_ids=tokens).logits, tokens), list(handle.parameters()), ADAMW),
        descend(lambda: loss_of(other(input_ids=tokens).logits, tokens), trained, ADAMW),
    )
    for own, theirs_tensor in pairs:
        agree(own.detach(), theirs_tensor.detach())
    for site, name, expert, theirs_tensor in by_expert:
        agree(getattr(site, name)[expert].detach(), theirs_tensor.detach())


@pytest.mark.parametrize("make", [tiny_gpt2, lambda: tiny_llama(hidden_size=24, intermediate_size=40)])
@pytest.mark.parametrize("settings", [{}, {"layerwise": True, "temperature": 2.0}, {"top_k": 1, "renormalize": True}])
def test_each_token_gets_the_experts_that_its_own_hidden_state_asks_for(make, settings, tokens):
    """Experts are added token by token and layer by layer, by hooks on a copy of the model."""
    model = lively(make())
    plain = copy.deepcopy(model)
    handle = attach(model, adapter("xlora", experts=3, rank=2, alpha=3.0, **settings))
    noisy(handle.parameters(), 0.3)
    layers = list(handle.sites.items())[1:]
    leaves = {
        path: {name: p.detach().clone().requires_grad_() for name, p in site.named_parameters()}
        for path, site in handle.sites.items()
    }

    def loss():
        with torch.no_grad():
            hidden = plain(tokens, output_hidden_states=True).hidden_states[-1]
        logits = (hidden @ leaves["router"]["w0"].T + leaves["router"]["b0"]) / settings.get("temperature", 1.0)
        hooks = []
        for number, (path, _) in enumerate(layers):
            own = logits[..., 3 * number : 3 * number + 3] if settings.get("layerwise") else logits
            if settings.get("top_k") == 1:  # a softmax over one expert: all of it, whatever its logit
                shares = torch.nn.functional.one_hot(own.argmax(-1), 3).to(own.dtype)
            else:
                shares = own.exp() / own.exp().sum(-1, keepdim=True)

            def mixed(module, given, output, shares=shares, path=path):
                (x,), total = given, output
                for expert in range(3):
                    low_rank = leaves[path]["b"][expert] @ leaves[path]["a"][expert]
                    total = total + 1.5 * shares[..., expert, None] * (x @ low_rank.T)
                return total

            hooks.append(plain.get_submodule(path).register_forward_hook(mixed))
        try:
            return loss_of(plain(tokens).logits, tokens)
        finally:
            for hook in hooks:
                hook.remove()

    trained = [p for site in handle.sites.values() for p in site.parameters()]
    others = [p for group in leaves.values() for p in group.values()]
    if settings.get("top_k") == 1:  # its router has no gradient
        trained, others = ([p for p in group if p.ndim == 3] for group in (trained, others))
    same_descent(descend(lambda: loss_of(model(tokens).logits, tokens), trained, SGD), descend(loss, others, SGD))
    agree([p.detach() for p in trained], [p.detach() for p in others])
