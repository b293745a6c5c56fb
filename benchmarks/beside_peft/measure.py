"""A training step and what it keeps, of several models that take turns.

A step is a forward pass and a backward pass to the input and the adapter, without an optimizer. The frozen base, LoRA, the
method and PEFT's take turns within each round, so that what else the machine does falls on all of them alike; a ratio is
the median of the rounds' own. Nothing is compared across methods but by such ratios.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from statistics import median
from typing import Any

import peft
import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from adapterlab.adapters import adapter
from adapterlab.surgery import Handle, attach
from adapterlab.surgery.init.svd_cache import FactorCache
from benchmarks.beside_peft.contests import base_model, contest, method_of

FEWEST, MOST = 3, 15
"""Rounds, however slow or fast a step is."""
MERGED = 5
"""Rounds of inference."""
SEQUENCES = 4


def twin_of(model: nn.Module) -> nn.Module:
    """A copy that shares the base's tensors."""
    return copy.deepcopy(model, {id(t): t for t in (*model.parameters(), *model.buffers())})


def timed(run: Callable[[], Any]) -> float:
    """Seconds that one call takes, whatever it started on a GPU included."""
    start = _now()
    run()
    return _now() - start


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class NotMergeableError(Exception):
    """The adapter is no change of a weight."""


class Runner:
    """A model and its steps."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.trained = [p for p in model.parameters() if p.requires_grad]

    def step(self, x: Tensor) -> None:
        for p in self.trained:
            p.grad = None
        self._loss(x).backward()

    @torch.no_grad()
    def infer(self, x: Tensor) -> None:
        self.model(inputs_embeds=x, use_cache=False)

    def kept(self, x: Tensor) -> int:
        """One step; the bytes of all storages, the model's own left out, that its forward keeps for its backward pass."""
        own = {t.untyped_storage().data_ptr() for t in (*self.model.parameters(), *self.model.buffers())}
        seen: dict[int, int] = {}
        alive = []  # so that no address is used twice

        def note(t: Tensor) -> Tensor:
            alive.append(t)
            for part in (t._indices(), t._values()) if t.is_sparse else (t,):
                seen[part.untyped_storage().data_ptr()] = part.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            loss = self._loss(x)
        loss.backward()
        return sum(size for pointer, size in seen.items() if pointer not in own)

    def _loss(self, x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        return self.model(inputs_embeds=x, use_cache=False).logits.float().square().mean()


def interleaved(runs: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """The times of each, taking turns; every other round goes backwards."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds):
        for name in list(runs)[:: 1 if turn % 2 else -1]:
            times[name].append(timed(runs[name]))
    return times


def ratio(times: list[float], reference: list[float]) -> float:
    return median(a / b for a, b in zip(times, reference, strict=True))


class Bench:
    """The base and what every method is measured against: the frozen base, and LoRA."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.base: LlamaForCausalLM = base_model(device, dtype)
        frozen, reference = twin_of(self.base), twin_of(self.base)
        frozen.requires_grad_(False)
        attach(reference, adapter("lora", rank=8))
        self.references = {"frozen": Runner(frozen), "lora": Runner(reference)}
        self._reference: dict[int, tuple[float, int]] = {}

    def input(self, tokens: int) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(SEQUENCES, tokens, self.base.config.hidden_size, generator=generator)
        return x.to(device=self.device, dtype=self.dtype)

    def reference(self, tokens: int) -> tuple[float, int]:
        """Seconds that a step of the frozen base and one of LoRA take together, and the bytes that the base keeps."""
        if tokens not in self._reference:
            x, kept = self.input(tokens), list[int]()
            self.references["lora"].step(x)
            self.references["frozen"].step(x)
            seconds = timed(lambda: self.references["lora"].step(x))
            seconds += timed(lambda: kept.append(self.references["frozen"].kept(x)))
            self._reference[tokens] = seconds, kept[0]
        return self._reference[tokens]

    def measure(self, name: str, lengths: Sequence[int], seconds: float) -> dict[str, Any]:
        """All about one method, each length for about `seconds`; what fails says so instead of ending the run."""
        row: dict[str, Any] = {"settings": str(method_of(name)), "lengths": {}}
        sides: dict[str, Runner] = {}
        mergers: dict[str, Callable[[], nn.Module]] = {}
        once = {tokens: self.reference(tokens)[0] for tokens in lengths}  # how long a round will take
        for side, make in (("ours", self._ours), ("peft", self._theirs)):
            if side == "peft" and contest(name).theirs is None:
                continue
            try:
                attach_seconds, model, mergers[side] = make(name)
                sides[side] = Runner(model)
                with torch.no_grad():  # off the start, where a factor of zero would make the arithmetic easy
                    for p in sides[side].trained:
                        p.add_(torch.randn_like(p) * 0.01)
                row[f"{side}_parameters"] = sum(p.numel() for p in sides[side].trained)
                row[f"{side}_attach_ms"] = 1e3 * attach_seconds
                for tokens in lengths:
                    x, kept = self.input(tokens), list[int]()
                    once[tokens] += timed(lambda side=side, x=x, kept=kept: kept.append(sides[side].kept(x)))
                    mib = (kept[0] - self.reference(tokens)[1]) / 2**20
                    row["lengths"].setdefault(str(tokens), {})[f"{side}_kept_mib"] = mib
            except Exception as error:
                sides.pop(side, None)
                row[f"{side}_failed"] = f"{type(error).__name__}: {error}".splitlines()[0]
        for tokens in lengths:
            row["lengths"].setdefault(str(tokens), {}).update(
                self._steps(sides, self.input(tokens), min(MOST, max(FEWEST, int(seconds / once[tokens]))))
            )
        row.update(self._merged(sides, mergers, self.input(min(lengths))))
        return row

    def _steps(self, sides: Mapping[str, Runner], x: Tensor, rounds: int) -> dict[str, float]:
        runs = {side: runner.step for side, runner in (self.references | sides).items()}
        times = interleaved({side: lambda step=step: step(x) for side, step in runs.items()}, rounds)
        found = {
            "rounds": rounds,
            "frozen_ms": 1e3 * median(times["frozen"]),
            "lora_step": ratio(times["lora"], times["frozen"]),
        }
        found |= {f"{side}_step": ratio(times[side], times["frozen"]) for side in sides}
        if "ours" in sides:
            found["over_lora"] = ratio(times["ours"], times["lora"])
        if "ours" in sides and "peft" in sides:
            found["speedup"] = ratio(times["peft"], times["ours"])
        return found

    def _merged(
        self, sides: Mapping[str, Runner], mergers: Mapping[str, Callable[[], nn.Module]], x: Tensor
    ) -> dict[str, float]:
        """A forward pass of each side with its adapter merged, over the frozen base's."""
        runners = {"frozen": self.references["frozen"]}
        for side in sides:
            with suppress(NotMergeableError) if side == "ours" else suppress(Exception):  # PEFT has many ways to refuse
                runners[side] = Runner(mergers[side]())
        times = interleaved({side: lambda r=runner: r.infer(x) for side, runner in runners.items()}, MERGED)
        return {f"{side}_merged": ratio(times[side], times["frozen"]) for side in runners if side != "frozen"}

    def _ours(self, name: str) -> tuple[float, nn.Module, Callable[[], nn.Module]]:
        model, handles = twin_of(self.base), list[Handle]()
        seconds = timed(lambda: handles.append(attach(model, method_of(name), factors=FactorCache())))

        def merge() -> nn.Module:
            if not handles[0].adapter.mergeable:
                raise NotMergeableError
            handles[0].merge()
            return model

        return seconds, model, merge

    def _theirs(self, name: str) -> tuple[float, nn.Module, Callable[[], nn.Module]]:
        config = contest(name).theirs
        assert config is not None
        model = copy.deepcopy(self.base)  # PEFT may change the base's tensors
        built: list[Any] = []
        seconds = timed(lambda: built.append(peft.get_peft_model(model, config())))
        return seconds, built[0].train(), lambda: built[0].merge_and_unload()
