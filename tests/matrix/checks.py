"""Checks of one method on one architecture; each raises an AssertionError, or AdapterlabError if the method refuses."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, StaticCache

from adapterlab.adapters.base import Adapter
from adapterlab.errors import AdapterlabError
from adapterlab.surgery import attach, load
from adapterlab.surgery.handle import Handle
from tests.adapters.methods import noisy
from tests.matrix.architectures import TOKENS, Architecture

Check = Callable[[Architecture, Adapter], None]


class NotApplicableError(Exception):
    """The architecture has nothing of the kind that a check is about."""


def close(found: Tensor, expected: Tensor, what: str, tolerance: float = 1e-4) -> None:
    error = ((found - expected).abs().max() / expected.abs().max()).item()
    assert error <= tolerance, f"{what}: {error:.1%} of the largest value off"


def trace(model: nn.Module) -> tuple[Any, ...]:
    """Everything that an attached adapter may leave: modules, attributes, hooks, flags and values."""
    modules = [
        (
            path,
            type(module),
            list(module._modules),
            {k: (len(v) if k.endswith("_hooks") else type(v)) for k, v in vars(module).items()},
        )
        for path, module in model.named_modules()
    ]
    flags = [p.requires_grad for p in model.parameters()]
    return modules, flags, {name: t.clone() for name, t in model.state_dict().items()}


def same_trace(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    values = a[2].keys() == b[2].keys() and all(torch.equal(a[2][k], b[2][k]) for k in a[2])
    return a[0] == b[0] and a[1] == b[1] and values


def attached(model: nn.Module, method: Adapter) -> Handle:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* leaves out ")
        return attach(model, method)


def adapted(architecture: Architecture, method: Adapter, size: float = 0.05) -> tuple[nn.Module, Handle]:
    model = architecture.make()
    handle = attached(model, method)
    noisy(handle.parameters(), size)
    return model, handle


def loss_of(architecture: Architecture, model: nn.Module, **changes: Any) -> Tensor:
    output = architecture.run(model, **changes).float()
    target = torch.linspace(-1, 1, output.numel()).cos().view_as(output)
    return (output * target).mean()


def it_leaves_no_trace(architecture: Architecture, method: Adapter) -> None:
    model = architecture.make()
    before = trace(model)
    try:
        handle = attached(model, method)
    except AdapterlabError:
        assert same_trace(trace(model), before), "a refused attach changed the model"
        raise
    except Exception as error:
        raise AssertionError(f"attach crashed: {type(error).__name__}: {error}") from error
    noisy(handle.parameters())
    handle.detach()
    assert same_trace(trace(model), before), "detach left something"


@torch.no_grad()
def it_changes_the_answer(architecture: Architecture, method: Adapter) -> None:
    model = architecture.make().requires_grad_(False)  # torch's convolutions round differently if they train
    answer = architecture.run(model)
    handle = attached(model, method)
    if method.starts_as_base:
        close(architecture.run(model), answer, "start")
    noisy(handle.parameters())
    assert not torch.allclose(architecture.run(model), answer, rtol=1e-4, atol=1e-6), "the adapter changes nothing"
    with handle.disabled():
        assert torch.equal(architecture.run(model), answer), "disabled is not the base"


def it_trains(architecture: Architecture, method: Adapter) -> None:
    model = architecture.make()
    handle = attached(model, method)
    noisy(handle.parameters(), 0.02)
    start = loss_of(architecture, model)
    start.backward()
    gradients = [(p, p.grad) for p in handle.parameters() if p.grad is not None]
    norm = sum(float(g.square().sum()) for _, g in gradients) ** 0.5
    assert norm > 0, "no gradients"
    with torch.no_grad():
        for length in (1e-2, 1e-3, 1e-4):
            before = [p.clone() for p, _ in gradients]
            for p, g in gradients:
                p.sub_(g * (length / norm))
            if loss_of(architecture, model) < start:
                return
            for (p, _), old in zip(gradients, before, strict=True):
                p.copy_(old)
    raise AssertionError("no small step along the gradient lowers the loss")


@torch.no_grad()
def it_comes_back_from_disk(architecture: Architecture, method: Adapter) -> None:
    model, handle = adapted(architecture, method)
    answer = architecture.run(model)
    with tempfile.TemporaryDirectory() as folder:
        handle.save(folder)
        other = architecture.make()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".* leaves out ")
            load(other, folder)
    assert torch.equal(architecture.run(other), answer), "loaded differs from saved"


@torch.no_grad()
def merged_is_what_ran(architecture: Architecture, method: Adapter) -> None:
    if not method.mergeable:
        raise NotApplicableError
    model, handle = adapted(architecture, method)
    answer = architecture.run(model)
    handle.merge()
    close(architecture.run(model), answer, "merged", 1e-3)
    handle.unmerge()
    assert torch.equal(architecture.run(model), answer), "unmerged"


@torch.no_grad()
def a_copy_is_independent(architecture: Architecture, method: Adapter) -> None:
    model, handle = adapted(architecture, method)
    answer = architecture.run(model)
    other = copy.deepcopy(model)
    handle.detach()
    assert torch.equal(architecture.run(other), answer), "copy"


def _cached(kind: str) -> Check:
    @torch.no_grad()
    def check(architecture: Architecture, method: Adapter) -> None:
        if architecture.kind != "decoder":
            raise NotApplicableError
        model, _ = adapted(architecture, method)
        whole = architecture.run(model)
        if kind == "static":
            cache: Any = StaticCache(config=model.config, max_cache_len=16)
        else:
            cache = DynamicCache(config=model.config)
        parts = []
        for start, end in ((0, 5), (5, 6), (6, 7), (7, 8)):
            options: dict[str, Any] = {"past_key_values": cache, "use_cache": True}
            parts.append(model(TOKENS[:, start:end], **options).logits)
        if getattr(method, "end", 0):  # the last positions of a prompt are edited, and the prompt is known at its end
            parts, whole = parts[:1], architecture.run(model, input_ids=TOKENS[:, :5])
        close(torch.cat(parts, dim=1), whole, f"{kind} cache", 1e-3)

    return check


@torch.no_grad()
def generation_is_the_same_with_a_cache(architecture: Architecture, method: Adapter) -> None:
    if architecture.kind != "decoder":
        raise NotApplicableError
    model, _ = adapted(architecture, method, 0.2)
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    expected = model.generate(TOKENS, use_cache=False, **options)
    for cache in (None, "static"):
        found = model.generate(TOKENS, cache_implementation=cache, **options)
        assert torch.equal(found, expected), f"generation with the cache {cache or 'dynamic'}"


@torch.no_grad()
def padding_changes_nothing(architecture: Architecture, method: Adapter) -> None:
    if architecture.kind not in ("decoder", "encoder"):
        raise NotApplicableError
    model, _ = adapted(architecture, method)
    alone = architecture.run(model, input_ids=TOKENS[1:, :5])
    if alone.ndim == 2 and architecture.kind == "decoder":
        raise NotApplicableError
    rows = torch.zeros_like(TOKENS)
    mask = torch.zeros_like(TOKENS)
    rows[0], mask[0] = TOKENS[0], 1
    left = architecture.kind == "decoder"
    place = slice(3, 8) if left else slice(0, 5)
    rows[1, place], mask[1, place] = TOKENS[1, :5], 1
    options = (
        {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)} if left and architecture.takes_positions(model) else {}
    )
    found = architecture.run(model, input_ids=rows, attention_mask=mask, **options)[1:]
    close(found if alone.ndim == 2 else found[:, place], alone, "padding", 1e-3)


def _checkpointed(reentrant: bool) -> Check:
    def check(architecture: Architecture, method: Adapter) -> None:
        gradients = []
        for checkpointing in (False, True):
            model, handle = adapted(architecture, method)
            model.train()
            for module in model.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.0
            if checkpointing:
                if not model.supports_gradient_checkpointing:
                    raise NotApplicableError
                model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            loss_of(architecture, model, **({"use_cache": False} if architecture.kind == "decoder" else {})).backward()
            gradients.append([torch.zeros_like(p) if p.grad is None else p.grad for p in handle.parameters()])
        size = max(float(g.abs().max()) for g in gradients[0])
        for plain, again in zip(*gradients, strict=True):
            assert (plain - again).abs().max() <= 1e-4 * size, "checkpointing loses gradients"

    return check


@torch.no_grad()
def bfloat16_after_attach(architecture: Architecture, method: Adapter) -> None:
    model, _ = adapted(architecture, method, 0.01)
    expected = architecture.run(model)
    model.to(torch.bfloat16)
    inputs = {k: v.to(torch.bfloat16) if v.is_floating_point() else v for k, v in architecture.inputs.items()}
    found = architecture.run(model, **inputs)
    base = architecture.run(architecture.make().to(torch.bfloat16), **inputs)
    assert found.dtype == base.dtype, f"the output is {found.dtype}"
    # Means, since rounding can send single tokens to another expert.
    rounding = (base.float() - architecture.run(architecture.make())).abs().mean()
    assert (found.float() - expected).abs().mean() <= 5 * rounding + 0.02 * expected.abs().mean(), "bfloat16"


CHECKS: dict[str, Check] = {
    "no trace": it_leaves_no_trace,
    "answer": it_changes_the_answer,
    "training": it_trains,
    "disk": it_comes_back_from_disk,
    "merge": merged_is_what_ran,
    "copy": a_copy_is_independent,
    "cache": _cached("dynamic"),
    "static cache": _cached("static"),
    "generate": generation_is_the_same_with_a_cache,
    "padding": padding_changes_nothing,
    "checkpointing": _checkpointed(reentrant=False),
    "reentrant checkpointing": _checkpointed(reentrant=True),
    "bfloat16": bfloat16_after_attach,
}
