"""The callback by which transformers' Trainer, and TRL's trainers, train a method as it is defined.

>>> from torch import nn
>>> from adapterlab import adapter, attach
>>> handle = attach(nn.Sequential(nn.Linear(4, 4)), adapter("adalora", rank=2))
>>> callback = TrainerCallback(handle)
>>> callback.handle.adapter.total_steps
1000
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel, TrainerControl, TrainerState, TrainingArguments

from adapterlab.errors import AdapterlabError
from adapterlab.surgery.handle import Handle
from adapterlab.surgery.trainer.card import announce_card
from adapterlab.surgery.trainer.dtypes import dtypes_of, restore_dtypes
from adapterlab.surgery.trainer.optimizer import ignores_ratios


class TrainerCallback(transformers.TrainerCallback):
    """Adds a method's penalty to the gradient, runs its own update after each step, and scales its schedule to the run.

    Needed for methods with a penalty or an update of their own, such as AdaLoRA, and for TRL's trainers with a reference
    model. Other methods train the same without it. Attach the adapter before the trainer is made.

    The penalty's gradient is added once for each optimizer step, before the gradients of the batches and before clipping,
    as if the penalty were part of the loss. The loss in the logs is without it.

    Args:
        handle: The attached adapter.
        scores: Scores by name for the model card, such as those of a study.
        own_reference: True if a trainer of TRL was given another reference model than `handle.reference()` on purpose.
    """

    def __init__(
        self, handle: Handle, scores: Mapping[str, float] | None = None, *, own_reference: bool = False
    ) -> None:
        self.handle, self._own_reference = handle, own_reference
        self._given, self._training = handle.adapter, False
        self._dtypes = dtypes_of(handle)
        if scores is not None:
            handle.scores = dict(scores)

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Note the dtypes that the trainer trains in.

        Args:
            args: Not used.
            state: Not used.
            control: Not used.
            **kwargs: Not used.
        """
        self._dtypes = dtypes_of(self.handle)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Restore the adapter's dtypes after `bf16_full_eval` or `fp16_full_eval`, which cast the whole model.

        Args:
            args: Arguments of the trainer.
            state: Not used.
            control: Not used.
            **kwargs: Not used.
        """
        if not self._training:
            restore_dtypes(self.handle, self._dtypes, args)

    def on_predict(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any, **kwargs: Any
    ) -> None:
        """Restore the adapter's dtypes as after an evaluation.

        Args:
            args: Arguments of the trainer.
            state: Not used.
            control: Not used.
            metrics: Not used.
            **kwargs: Not used.
        """
        self.on_evaluate(args, state, control)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Check the trainer, and scale the method's own schedule to the number of its steps.

        Args:
            args: Arguments of the trainer.
            state: State of the trainer; `max_steps` is the length of the schedule.
            control: Not used.
            **kwargs: `optimizer` is read.

        Raises:
            AdapterlabError: The optimizer does not hold the adapter's parameters, or TRL's reference would not be the
                model without the adapter.
        """
        if not self._own_reference:
            _check_reference(self.handle, args)
        _check_optimizer(self.handle, kwargs.get("optimizer"))
        restore_dtypes(self.handle, self._dtypes, args)
        self._training = True
        scheduled = self._given.scheduled(state.max_steps)
        for site in self.handle.sites.values():
            if site.adapter == self.handle.adapter:
                site.adapter = scheduled
        self.handle.adapter = scheduled

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the gradients of an optimizer step with those of the method's penalty.

        Args:
            args: Not used.
            state: Not used.
            control: Not used.
            **kwargs: `optimizer` is read for the factor of mixed precision.
        """
        penalty = self.handle.regularizer()
        if penalty is None or not penalty.requires_grad:
            return
        scaler = getattr(kwargs.get("optimizer"), "scaler", None)
        factor = 1.0 if scaler is None else scaler.get_scale()
        parameters = [p for p in self.handle.parameters() if p.requires_grad]
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(penalty, parameters, allow_unused=True), strict=True
        ):
            if gradient is not None:
                added = gradient * factor
                parameter.grad = added if parameter.grad is None else parameter.grad + added

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Run the method's own update, unless mixed precision skipped the step.

        Args:
            args: Not used.
            state: State of the trainer; `global_step` is the number of the step.
            control: Not used.
            **kwargs: `optimizer` is read.
        """
        if not getattr(kwargs.get("optimizer"), "step_was_skipped", False):
            self.handle.after_step(state.global_step)

    def on_push_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Complete the folder that Trainer uploads: all files of the adapter, and its model card.

        Args:
            args: `output_dir` is the folder.
            state: State of the trainer.
            control: Not used.
            **kwargs: Not used.
        """
        if state.is_world_process_zero and isinstance(self.handle.model, PreTrainedModel):
            folder = Path(str(args.output_dir))
            self.handle.model.save_pretrained(folder)
            if not self._training:
                announce_card(folder)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note that the next upload is the last, for which Trainer writes a card.

        Args:
            args: Not used.
            state: Not used.
            control: Not used.
            **kwargs: Not used.
        """
        self._training = False


def _check_optimizer(handle: Handle, optimizer: torch.optim.Optimizer | None) -> None:
    if optimizer is None:
        return
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    missing = sum(id(p) not in held for p in handle.parameters() if p.requires_grad)
    if missing or not handle.parameters():
        raise AdapterlabError(
            f"the trainer's optimizer does not train {missing or 'any'} of the parameters of {handle.adapter.name}: attach "
            "the adapter before the trainer is made, and give the callback its handle"
        )
    if ignores_ratios(handle, optimizer):
        stated = {name: ratio for name, ratio in handle.adapter.lr_ratios.items() if ratio != 1}
        warnings.warn(
            f"{handle.adapter.name} states learning rates relative to the others, {stated}, which this optimizer ignores: "
            "give the trainer optimizer_cls_and_kwargs=adapterlab.optimizer_for(handle, args)",
            stacklevel=2,
        )


def _check_reference(handle: Handle, args: TrainingArguments) -> None:
    """Raise an error if a trainer of TRL has another reference than the model without the adapter.

    TRL disables the adapters of PEFT for its reference. Any other model it loads again by its name, without what is
    merged into it or attached below.
    """
    precomputed = getattr(args, "precompute_ref_log_probs", None)
    uses_reference = precomputed is not None or (hasattr(args, "sync_ref_model") and getattr(args, "beta", 0.0) != 0)
    if not uses_reference:
        return
    kind = type(args).__name__.removesuffix("Config")
    if getattr(args, "sync_ref_model", False):
        raise AdapterlabError(
            f"{kind}: sync_ref_model=True needs a second model; an adapter's reference shares its weights"
        )
    if handle.has_reference or (precomputed and handle.adapter.starts_as_base):
        return
    fix = "ref_model=handle.reference()"
    if precomputed is None:
        fix = "trainer.ref_model = handle.reference() before train()"
    raise AdapterlabError(
        f"{kind} would not take the model without this adapter as its reference, but load the base again by its name, or "
        f"keep the start of {handle.adapter.name}: give {fix}; or own_reference=True to this callback to keep yours"
    )
