"""Measure the time and memory of a training step for several models that take turns.

A step is a forward pass and a backward pass to the input and the adapter, without an optimizer. In each round the frozen
base, LoRA, our method and PEFT's take one step each, so that other load on the machine affects all of them equally. A ratio
is the median of the ratios of the rounds, and methods are compared by such ratios only.
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
from adapterlab.adapters.base import Adapter
from adapterlab.surgery import Handle, attach
from adapterlab.surgery.init.svd_cache import FactorCache
from benchmarks.beside_peft.comparisons import MODELS, Shape, base_model, comparison, method_of

MIN_ROUNDS, MAX_ROUNDS = 3, 15
"""Limits of the number of rounds, which depends on the time of a step."""
INFERENCE_ROUNDS = 5
"""Rounds of inference with merged adapters."""
SEQUENCES = 4
"""Sequences in the input."""


def copy_with_shared_tensors(model: nn.Module) -> nn.Module:
    """Return a copy of a model that shares its parameters and buffers.

    Args:
        model: The model to copy.
    """
    return copy.deepcopy(model, {id(t): t for t in (*model.parameters(), *model.buffers())})


def timed(run: Callable[[], Any]) -> float:
    """Return the seconds of one call, including the work that it started on a GPU.

    Args:
        run: Function to call.
    """
    start = _now()
    run()
    return _now() - start


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class NotMergeableError(Exception):
    """The adapter cannot be merged, since it does not change weights."""


class Runner:
    """A model, with its training and inference steps.

    Args:
        model: The model; its parameters that require gradients are the adapter.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.trained = [p for p in model.parameters() if p.requires_grad]

    def step(self, x: Tensor) -> None:
        """Run a forward and a backward pass.

        Args:
            x: Input vectors `(sequences, tokens, hidden size)`.
        """
        for p in self.trained:
            p.grad = None
        self._loss(x).backward()

    @torch.no_grad()
    def infer(self, x: Tensor) -> None:
        """Run a forward pass without gradients.

        Args:
            x: Input vectors `(sequences, tokens, hidden size)`.
        """
        self.model(inputs_embeds=x, use_cache=False)

    def saved_bytes(self, x: Tensor) -> int:
        """Return the bytes that the forward pass of one step saves for its backward pass.

        Each storage counts round_seconds; the model's parameters and buffers do not count.

        Args:
            x: Input vectors `(sequences, tokens, hidden size)`.
        """
        own = {t.untyped_storage().data_ptr() for t in (*self.model.parameters(), *self.model.buffers())}
        sizes: dict[int, int] = {}
        alive = []  # keeps the tensors, so that no address is reused

        def note(t: Tensor) -> Tensor:
            alive.append(t)
            for part in (t._indices(), t._values()) if t.is_sparse else (t,):
                sizes[part.untyped_storage().data_ptr()] = part.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            loss = self._loss(x)
        loss.backward()
        return sum(size for pointer, size in sizes.items() if pointer not in own)

    def _loss(self, x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        return self.model(inputs_embeds=x, use_cache=False).logits.float().square().mean()


def interleaved(runs: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each call of some functions that take turns.

    Args:
        runs: Functions by name.
        rounds: Number of calls of each function; the order is reversed in every other round.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds):
        for name in list(runs)[:: 1 if turn % 2 else -1]:
            times[name].append(timed(runs[name]))
    return times


def ratio(times: list[float], reference: list[float]) -> float:
    """Return the median ratio of two series of times.

    Args:
        times: Seconds in each round.
        reference: Seconds of the reference in the same rounds.
    """
    return median(a / b for a, b in zip(times, reference, strict=True))


class Bench:
    """The base model, and the two references of every method: the frozen base and LoRA.

    Args:
        device: Device to measure on.
        dtype: Type of weights and inputs.
        shape: Sizes of the model.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, shape: Shape = MODELS["1024"]) -> None:
        self.device, self.dtype, self.shape = device, dtype, shape
        self.base: LlamaForCausalLM = base_model(device, dtype, shape)
        frozen, reference = copy_with_shared_tensors(self.base), copy_with_shared_tensors(self.base)
        frozen.requires_grad_(False)
        attach(reference, adapter("lora", rank=8))
        self.references = {"frozen": Runner(frozen), "lora": Runner(reference)}
        self._reference: dict[int, tuple[float, int]] = {}

    def input(self, tokens: int) -> Tensor:
        """Return random input vectors `(SEQUENCES, tokens, hidden size)`, the same in every call.

        Args:
            tokens: Positions in each sequence.
        """
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(SEQUENCES, tokens, self.base.config.hidden_size, generator=generator)
        return x.to(device=self.device, dtype=self.dtype)

    def reference(self, tokens: int) -> tuple[float, int]:
        """Return the seconds of a frozen step and a LoRA step together, and the bytes that the frozen step saves.

        Args:
            tokens: Positions in each sequence.
        """
        if tokens not in self._reference:
            x, saved = self.input(tokens), list[int]()
            self.references["lora"].step(x)
            self.references["frozen"].step(x)
            seconds = timed(lambda: self.references["lora"].step(x))
            seconds += timed(lambda: saved.append(self.references["frozen"].saved_bytes(x)))
            self._reference[tokens] = seconds, saved[0]
        return self._reference[tokens]

    def measure(self, name: str, lengths: Sequence[int], seconds: float, size: str = "usual") -> dict[str, Any]:
        """Return all measurements of one method; a side that fails is recorded and does not end the run.

        Args:
            name: Name of the comparison.
            lengths: Positions in each sequence.
            seconds: Seconds for the rounds at each length.
            size: One of `SIZES`.
        """
        method, theirs = method_of(name, self.shape, size), comparison(name, self.shape, size).theirs
        row: dict[str, Any] = {"settings": str(method), "lengths": {}}
        sides: dict[str, Runner] = {}
        mergers: dict[str, Callable[[], nn.Module]] = {}
        round_seconds = {tokens: self.reference(tokens)[0] for tokens in lengths}  # seconds of a round
        makers = {"ours": lambda: self._ours(method)}
        if theirs is not None:
            makers["peft"] = lambda: self._theirs(theirs)
        for side, make in makers.items():
            try:
                attach_seconds, model, mergers[side] = make()
                sides[side] = Runner(model)
                with torch.no_grad():  # away from the start, where factors of zero would be faster
                    for p in sides[side].trained:
                        p.add_(torch.randn_like(p) * 0.01)
                row[f"{side}_parameters"] = sum(p.numel() for p in sides[side].trained)
                row[f"{side}_attach_ms"] = 1e3 * attach_seconds
                for tokens in lengths:
                    x, saved = self.input(tokens), list[int]()
                    runner = sides[side]
                    round_seconds[tokens] += timed(
                        lambda run=runner, x=x, saved=saved: saved.append(run.saved_bytes(x))
                    )
                    mib = (saved[0] - self.reference(tokens)[1]) / 2**20
                    row["lengths"].setdefault(str(tokens), {})[f"{side}_kept_mib"] = mib
            except Exception as error:
                sides.pop(side, None)
                row[f"{side}_failed"] = f"{type(error).__name__}: {error}".splitlines()[0]
        for tokens in lengths:
            rounds = min(MAX_ROUNDS, max(MIN_ROUNDS, int(seconds / round_seconds[tokens])))
            row["lengths"].setdefault(str(tokens), {}).update(self._steps(sides, self.input(tokens), rounds))
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
        """Return the time of a forward pass of each side with its adapter merged, relative to the frozen base's."""
        runners = {"frozen": self.references["frozen"]}
        for side in sides:
            with (
                suppress(NotMergeableError) if side == "ours" else suppress(Exception)
            ):  # PEFT raises errors of many types
                runners[side] = Runner(mergers[side]())
        times = interleaved({side: lambda r=runner: r.infer(x) for side, runner in runners.items()}, INFERENCE_ROUNDS)
        return {f"{side}_merged": ratio(times[side], times["frozen"]) for side in runners if side != "frozen"}

    def _ours(self, method: Adapter) -> tuple[float, nn.Module, Callable[[], nn.Module]]:
        model, handles = copy_with_shared_tensors(self.base), list[Handle]()
        seconds = timed(lambda: handles.append(attach(model, method, factors=FactorCache())))

        def merge() -> nn.Module:
            if not handles[0].adapter.mergeable:
                raise NotMergeableError
            handles[0].merge()
            return model

        return seconds, model, merge

    def _theirs(self, config: Callable[[], peft.PeftConfig]) -> tuple[float, nn.Module, Callable[[], nn.Module]]:
        model = copy.deepcopy(self.base)  # PEFT may change the base's tensors
        built: list[Any] = []
        seconds = timed(lambda: built.append(peft.get_peft_model(model, config())))
        return seconds, built[0].train(), lambda: built[0].merge_and_unload()
