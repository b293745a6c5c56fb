"""LoRA's starts are PEFT's: the same components, and the same map once they are subtracted."""

from __future__ import annotations

import math

import peft
import pytest
import torch
from peft.optimizers import lorafa
from peft.tuners.lora.config import CordaConfig, EvaConfig, LoraGAConfig
from peft.tuners.lora.corda import preprocess_corda
from peft.tuners.lora.eva import initialize_lora_eva_weights
from peft.tuners.lora.loraga import preprocess_loraga
from transformers import LlamaConfig, LlamaForCausalLM

import adapterlab
from adapterlab.adapters import adapter
from adapterlab.adapters.rank.lora_starts import STARTS, SUBTRACTED
from adapterlab.errors import AdapterlabError
from adapterlab.surgery import attach, load_experts, load_peft
from adapterlab.surgery.eva_ranks import eva_ranks
from adapterlab.surgery.export.peft_export import save_peft
from tests.adapters.methods import noisy
from tests.conftest import tiny_gpt2, tiny_llama

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
    pytest.mark.filterwarnings("ignore:Full backward hook is firing"),  # of PEFT's LoRA-GA
]
LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
RANK, ALPHA = 4, 6.0
EVA_RANK = 16
"""PEFT's decomposition of the inputs is randomized, and exact if twice the rank is the width."""


@pytest.fixture
def texts():
    return torch.randint(0, 64, (6, 20), generator=torch.Generator().manual_seed(5))


def lora(start, **settings):
    given = {"r": RANK, "lora_alpha": ALPHA, "target_modules": LAYERS, "init_lora_weights": start}
    return peft.LoraConfig(**given | settings)


def peft_start(name, texts):
    """PEFT's model with this start, from the same texts."""
    model = tiny_llama()
    if name.startswith("corda"):
        method = "kpm" if name == "corda_kpm" else "ipm"
        config = lora("corda", corda_config=CordaConfig(corda_method=method))
        preprocess_corda(model, config, run_model=lambda: model(texts[:3].reshape(1, -1)))
    elif name == "lora_ga":
        config = lora("lora_ga", lora_ga_config=LoraGAConfig())
        preprocess_loraga(model, config, train_step=lambda: model(texts, labels=texts).loss.backward())
    elif name == "eva":
        config = lora(
            "eva", r=EVA_RANK, target_modules=LAYERS[:-1], eva_config=EvaConfig(rho=1.0, use_label_mask=False)
        )
    else:
        config = lora(name)
    theirs = peft.get_peft_model(model, config)
    if name == "eva":
        batches = [{"input_ids": texts, "attention_mask": torch.ones_like(texts)}] * 3
        initialize_lora_eva_weights(theirs, batches, show_progress_bar=False)
    return theirs.eval()


def our_start(name, texts, model=None, rank=RANK, targets="all-linear", **settings):
    model = model or tiny_llama()
    run = (lambda: model(texts[:3].reshape(1, -1))) if name.startswith("corda") else (lambda: model(texts))
    given = {"runs": [run]} if name in ("eva", "corda", "corda_kpm") else {}
    if name == "lora_ga":
        given = {"loss": lambda: model(texts, labels=texts).loss}
    return attach(model, adapter("lora", rank=rank, alpha=ALPHA, start=name, **settings), targets, **given)


def components(b, a):
    """The products of one column of B and one row of A, which do not depend on the sign of either."""
    return b.T[:, :, None] * a[:, None]


FROM_PEFT = ["olora", "mica", "eva", "corda", "corda_kpm", "lora_ga"]


@pytest.mark.parametrize("name", FROM_PEFT)
def test_the_components_and_the_residual_are_pefts(name, texts):
    theirs = peft_start(name, texts)
    settings = {"rank": EVA_RANK, "targets": LAYERS[:-1]} if name == "eva" else {}
    handle, base = our_start(name, texts, **settings), tiny_llama()
    # The smallest components of a product of two matrices; and a randomized decomposition.
    accuracy = {"corda_kpm": 5e-3, "lora_ga": 1e-2}.get(name, 1e-3)
    for path, site in handle.sites.items():
        layer = theirs.get_submodule(f"base_model.model.{path}")
        a, b = layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach()
        own_a, own_b = site.state["a"].detach(), site.state["b"].detach()
        if not own_b.any() or not own_a.any():
            fixed, known = (own_a, a) if not own_b.any() else (own_b.T, b.T)
            torch.testing.assert_close(components(fixed.T, fixed), components(known.T, known), rtol=0, atol=1e-3)
            assert not a.any() or not b.any()
        else:
            ours, known = components(own_b, own_a), components(b, a)
            if (
                name == "lora_ga"
            ):  # its factors are of different singular triplets, so every product may have either sign
                sign = (ours * known).sum((1, 2), keepdim=True).sign()
                ours, subtracted = ours * sign, handle.adapter.scale * (ours * sign).sum(0)
            torch.testing.assert_close(ours, known, rtol=0, atol=accuracy * float(known.abs().max()))
            ratio = own_a.norm(dim=1) / a.norm(dim=1)
            torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=accuracy, atol=0)
        weight = base.get_submodule(path).weight
        if name != "lora_ga":
            taken = site.state["b0"] @ site.state["a0"] if name in SUBTRACTED else torch.zeros_like(weight)
            subtracted = handle.adapter.scale * taken
        torch.testing.assert_close(layer.base_layer.weight, weight - subtracted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in STARTS if name != "loftq"])
def test_the_model_answers_as_before_and_then_trains(name, texts):
    model = tiny_llama()
    before = model(texts).logits
    handle = our_start(name, texts, model)
    torch.testing.assert_close(model(texts).logits, before, rtol=1e-5, atol=1e-5)
    optimizer = torch.optim.SGD(handle.parameters(), lr=0.5)
    losses = []
    for _ in range(4):
        loss = model(texts, labels=texts).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", ["olora", "mica"])
def test_training_is_pefts(name, texts):
    theirs, handle = peft_start(name, texts), our_start(name, texts)
    for path, site in handle.sites.items():  # the same signs
        layer = theirs.get_submodule(f"base_model.model.{path}")
        with torch.no_grad():
            layer.lora_A["default"].weight.copy_(site.state["a"])
            layer.lora_B["default"].weight.copy_(site.state["b"])
    losses = []
    for model, parameters in ((handle.model, handle.parameters()), (theirs, theirs.parameters())):
        optimizer = torch.optim.AdamW([p for p in parameters if p.requires_grad], lr=1e-2)
        for _ in range(5):
            loss = model(input_ids=texts, labels=texts).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        losses.append(model(input_ids=texts, labels=texts).loss)
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-5)


def test_frozen_a_is_pefts_with_its_a_frozen(texts):
    """LoRA-FA: A is not trained."""
    theirs, handle = peft.get_peft_model(tiny_llama(), lora(True)).eval(), our_start("uniform", texts, train_a=False)
    assert {name for site in handle.sites.values() for name, _ in site.named_parameters()} == {"b"}
    for path, site in handle.sites.items():
        layer = theirs.get_submodule(f"base_model.model.{path}")
        layer.lora_A["default"].weight.data.copy_(site.state["a"])
        layer.lora_A["default"].weight.requires_grad_(False)
    for model, parameters in ((handle.model, handle.parameters()), (theirs, theirs.parameters())):
        optimizer = torch.optim.AdamW([p for p in parameters if p.requires_grad], lr=1e-2)
        for _ in range(5):
            model(input_ids=texts, labels=texts).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    torch.testing.assert_close(handle.model(texts).logits, theirs(input_ids=texts).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["uniform", "gaussian", "orthogonal"])
def test_random_starts_have_pefts_distribution(name):
    """A standard deviation of n numbers is known to a share of 1 / sqrt(2 n)."""
    shape = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 1, "vocab_size": 64}
    model = LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=4))
    start = {"uniform": True}.get(name, name)
    theirs = peft.get_peft_model(model, peft.LoraConfig(r=16, target_modules=["up_proj"], init_lora_weights=start))
    layer = theirs.base_model.model.model.layers[0].mlp.up_proj
    site = attach(
        LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=4)), adapter("lora", rank=16, start=name), "up_proj"
    ).sites["model.layers.0.mlp.up_proj"]
    for own, other in (
        (site.state["a"], layer.lora_A["default"].weight),
        (site.state["b"], layer.lora_B["default"].weight),
    ):
        # The orthogonal start's numbers depend on each other: half as many are free.
        tolerance = 5 / math.sqrt(own.numel())
        assert own.std().item() == pytest.approx(other.std().item(), rel=tolerance, abs=1e-12)
        assert own.abs().max().item() <= 1.5 * other.abs().max().item() + 1e-12
    assert (site.state["b"] @ site.state["a"]).abs().max() < 1e-5


def test_milora_takes_the_minor_components(texts):
    """The paper's own definition, as PEFT does not have it."""
    handle = our_start("milora", texts)
    for path, site in handle.sites.items():
        weight = tiny_llama().get_submodule(path).weight.detach()
        u, s, vt = torch.linalg.svd(weight.double(), full_matrices=False)
        minor = u[:, -RANK:] * s[-RANK:] @ vt[-RANK:]
        product = handle.adapter.scale * (site.state["b"] @ site.state["a"]).double().detach()
        torch.testing.assert_close(product, minor, rtol=1e-4, atol=1e-6)
        lengths = [t.detach().norm(dim=d) for t, d in ((site.state["a"], 1), (site.state["b"], 0))]
        torch.testing.assert_close(*lengths, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
@pytest.mark.parametrize("name", ["olora", "milora", "mica", "corda", "lora_ga"])
def test_saved_merged_and_written_for_peft(make, name, texts, tmp_path):
    for rslora in (False, True):
        handle = our_start(name, texts, make(), rslora=rslora)
        noisy(handle.parameters(), 0.05)
        expected = handle.model(texts).logits
        handle.save(tmp_path / "ours")
        again = make()
        adapterlab.load(again, tmp_path / "ours")
        torch.testing.assert_close(again(texts).logits, expected)
        assert save_peft(handle, tmp_path / "peft", "the-base") == "LORA"
        theirs = peft.PeftModel.from_pretrained(make(), str(tmp_path / "peft")).eval()
        torch.testing.assert_close(theirs(texts).logits, expected, rtol=1e-4, atol=1e-5)
        handle.merge()
        torch.testing.assert_close(handle.model(texts).logits, expected, rtol=1e-4, atol=1e-5)


def test_pefts_olora_is_loaded(texts, tmp_path):
    theirs = peft_start("olora", texts)
    noisy([p for p in theirs.parameters() if p.requires_grad], 0.05)
    theirs.save_pretrained(tmp_path)
    model = tiny_llama()
    assert load_peft(model, tmp_path).adapter.start == "olora"
    torch.testing.assert_close(model(texts).logits, theirs(texts).logits, rtol=1e-5, atol=1e-5)


def test_starts_from_data_without_data_are_named(texts, llama):
    for name, missing in (("eva", "runs="), ("corda", "runs="), ("lora_ga", "loss=")):
        with pytest.raises(AdapterlabError, match=f"start='{name}' needs.*{missing}"):
            attach(llama, adapter("lora", rank=RANK, start=name))
    with pytest.raises(AdapterlabError, match="start='eva' of rank 4 needs more than 3 tokens"):
        attach(llama, adapter("lora", rank=RANK, start="eva"), runs=[lambda: llama(texts[:1, :3])])
    with pytest.raises(AdapterlabError, match="never called the layer"):
        attach(llama, adapter("lora", rank=RANK, start="eva"), runs=[lambda: llama.model.embed_tokens(texts)])
    with pytest.raises(AdapterlabError, match="start='lora_ga' of rank 9 needs 18 singular vectors"):
        attach(llama, adapter("lora", rank=9, start="lora_ga"), loss=lambda: llama(texts, labels=texts).loss)


def test_settings_that_do_not_fit_are_named(llama):
    for settings, message in (
        ({"start": "pisa"}, "start 'pisa' is not one of uniform, gaussian"),
        ({"start": "orthogonal", "rank": 3}, "rank 3 is odd"),
        ({"start": "mica", "train_a": False}, "nothing to train"),
    ):
        with pytest.raises(AdapterlabError, match=message):
            attach(llama, adapter("lora", **settings))


def test_an_expert_with_a_subtracted_start_is_refused(texts, llama, tmp_path):
    our_start("olora", texts).save(tmp_path)
    mixture = attach(llama, adapter("xlora", experts=1, rank=RANK, alpha=ALPHA))
    with pytest.raises(AdapterlabError, match="a start on the base"):
        load_experts(mixture, [tmp_path])


@pytest.mark.parametrize("rho", [1.0, 1.5, 2.0])
def test_the_ranks_of_eva_are_pefts(rho, texts):
    """PEFT estimates the shares from batches one after the other, exactly if they are all the same."""
    model = tiny_llama()
    config = lora("eva", r=4, eva_config=EvaConfig(rho=rho, use_label_mask=False))
    theirs = peft.get_peft_model(model, config)
    batches = [{"input_ids": texts, "attention_mask": torch.ones_like(texts)}] * 3
    initialize_lora_eva_weights(theirs, batches, show_progress_bar=False)
    known = {
        path.removeprefix("base_model.model."): (layer.r["default"], layer.scaling["default"])
        for path, layer in theirs.named_modules()
        if isinstance(layer, peft.tuners.lora.LoraLayer)
    }

    model, method = tiny_llama(), adapter("lora", rank=4, alpha=ALPHA, start="eva")
    run = [lambda: model(texts)]
    chosen = eva_ranks(model, method, runs=run, rho=rho)
    handle = attach(model, method, **chosen, runs=run)
    assert {path: site.adapter.rank for path, site in handle.sites.items()} == {
        p: rank for p, (rank, _) in known.items()
    }
    assert all(site.adapter.scale == pytest.approx(ALPHA / 4) for site in handle.sites.values())
    assert all(scale == pytest.approx(ALPHA / 4) for _, scale in known.values())
    ranks = [site.adapter.rank for site in handle.sites.values()]
    assert (len(set(ranks)) > 1) == (rho > 1)


def test_eva_needs_tokens_for_its_largest_rank(texts):
    model, method = tiny_llama(), adapter("lora", rank=4, start="eva")
    with pytest.raises(AdapterlabError, match="ranks up to 8 need more than 3 tokens: give longer runs"):
        eva_ranks(model, method, runs=[lambda: model(texts[:1, :3])])
    with pytest.raises(AdapterlabError, match=r"rho is 0\.5: give a number of at least 1"):
        eva_ranks(model, method, runs=[lambda: model(texts)], rho=0.5)


def test_lora_fa_trains_as_with_pefts_optimizer(texts, monkeypatch):
    monkeypatch.setattr(lorafa, "is_bf16_available", lambda: False)  # else it rounds the gradient to bfloat16
    theirs, ours = peft.get_peft_model(tiny_llama(), lora(True)), tiny_llama()
    handle = attach(ours, adapter("lora", rank=RANK, alpha=ALPHA, train_a=False, project=True))
    with torch.no_grad():
        for path, site in handle.sites.items():
            layer = theirs.get_submodule(f"base_model.model.{path}")
            layer.lora_A["default"].weight.copy_(site.state["a"])
    optimizers = [
        lorafa.create_lorafa_optimizer(theirs, r=RANK, lora_alpha=ALPHA, lr=1e-2),
        torch.optim.Adam(handle.parameters(), lr=1e-2, eps=1e-12),
    ]
    for group in optimizers[0].param_groups:
        group["eps"] = 1e-12  # the two add it at different places
    for _ in range(5):
        losses = []
        for model, optimizer in zip((theirs, ours), optimizers, strict=True):
            loss = model(texts, labels=texts).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
        torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-4)
    for path, site in handle.sites.items():
        layer = theirs.get_submodule(f"base_model.model.{path}")
        torch.testing.assert_close(site.state["b"], layer.lora_B["default"].weight, rtol=2e-2, atol=1e-3)


def test_a_projected_gradient_descends_along_the_weights_own(texts):
    """Of all changes of `B A` with this `A`, the step is the nearest to a multiple of the gradient of the weight."""
    model = tiny_llama()
    weight = model.model.layers[0].mlp.up_proj.weight
    (gradient,) = torch.autograd.grad(model(texts, labels=texts).loss, [weight])
    handle = attach(
        model, adapter("lora", rank=RANK, alpha=ALPHA, train_a=False, project=True), ["up_proj"], layers=[0]
    )
    (site,) = handle.sites.values()
    a, scale = site.state["a"], handle.adapter.scale
    model(texts, labels=texts).loss.backward()
    moved = scale * (site.state["b"].grad @ a)
    nearest = torch.linalg.lstsq(a.T, gradient.T).solution.T @ a
    torch.testing.assert_close(moved, nearest, rtol=1e-3, atol=1e-6)


def test_a_projection_needs_an_a_that_is_fixed():
    with pytest.raises(AdapterlabError, match="project=True needs an A that is not trained: give train_a=False"):
        attach(tiny_llama(), adapter("lora", project=True))
