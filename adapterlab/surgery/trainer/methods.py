"""Methods that a model of transformers has while adapters are attached to it: save and load the adapters alone.

Trainer writes checkpoints with `model.save_pretrained` and resumes with `model.load_state_dict`. `attach` replaces both on
the instance, and the last `detach` puts the model's own back.

>>> from transformers import LlamaConfig, LlamaForCausalLM
>>> from adapterlab import adapter, attach
>>> model = LlamaForCausalLM(LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
...     num_attention_heads=1))
>>> handle = attach(model, adapter("lora", rank=2))
>>> "save_pretrained" in vars(model)
True
>>> handle.detach()
>>> "save_pretrained" in vars(model)
False
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from huggingface_hub import HfApi
from torch import Tensor, nn
from torch.nn.modules.module import _IncompatibleKeys
from transformers import PreTrainedModel

from adapterlab.adapters.base import Adapter
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.handle import Handle
from adapterlab.surgery.model.sharded import is_sharded, on_first, whole
from adapterlab.surgery.model.submodules import in_adapter
from adapterlab.surgery.trainer.card import extend_card, write_card
from adapterlab.surgery.trainer.resume import base_tensor, restore_into, write_for_resume

_KEY = "_adapterlab_methods"


def add_methods(handle: Handle) -> None:
    """Replace the methods on the handle's model, if it is one of transformers, until `handle.detach`.

    Args:
        handle: The adapter that was just attached.
    """
    if isinstance(handle.model, PreTrainedModel):
        start = _position(handle)  # which runs the method's own code, so it may raise
        methods = vars(handle.model).get(_KEY) or ModelMethods(handle.model)
        methods.add(handle, start)
        handle._undo.append(methods.remove)


def handles_on(model: nn.Module) -> list[Handle]:
    """Return the handles of the adapters attached to a model of transformers, the first attached first.

    Args:
        model: The model.
    """
    methods = vars(model).get(_KEY)
    return [] if methods is None else list(methods.handles)


class ModelMethods:
    """The replaced methods of one model, and the adapters attached to it.

    Args:
        model: The model.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.handles: list[Handle] = []
        self._start: list[float | None] = []
        own = {
            _KEY: self,
            "save_pretrained": self.save_pretrained,
            "load_state_dict": self.load_state_dict,
            "create_or_update_model_card": self.create_or_update_model_card,
            "push_to_hub": self.push_to_hub,
        }
        if getattr(model, "is_quantized", False):
            own["_hf_peft_config_loaded"] = True  # Trainer trains a quantized model only if an adapter is attached
        self._replaced = {name: vars(model)[name] for name in own if name in vars(model)}
        self._names = list(own)
        vars(model).update(own)

    def add(self, handle: Handle, start: float | None) -> None:
        """Add an adapter, which is then the topmost.

        Args:
            handle: The adapter.
            start: Its `_position`.
        """
        self.handles.append(handle)
        self._start.append(start)

    def remove(self, handle: Handle) -> None:
        """Remove an adapter; the last one puts the model's own methods back.

        Args:
            handle: The adapter.
        """
        at = next(i for i, other in enumerate(self.handles) if other is handle)
        del self.handles[at], self._start[at]
        if not self.handles:
            for name in self._names:
                del vars(self.model)[name]
            vars(self.model).update(self._replaced)

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        is_main_process: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> None:
        """Write the topmost adapter as `Handle.save` does, those below to subfolders, and the model card.

        If all adapters are merged, the merged model is written as a whole, in the format of transformers. On a model
        divided by `fully_shard`, all processes call this without `state_dict`, or one calls it with a full state dict.

        Args:
            save_directory: The folder; created if it does not exist.
            is_main_process: False to write nothing; a process of a divided model then helps to gather.
            state_dict: Full state dict of a divided model, in place of gathering. Not supported otherwise: the adapter's
                tensors are read from the model.
            push_to_hub: Not supported: call `model.push_to_hub` instead.
            **kwargs: Arguments of `PreTrainedModel.save_pretrained`, used for a merged model alone.

        Raises:
            AdapterlabError: `push_to_hub` is given, or `state_dict` and the model is not divided.
        """
        if self._merged:
            own = self.model.state_dict() if state_dict is None else state_dict
            clean = {key: tensor for key, tensor in own.items() if not in_adapter(key)}
            kwargs |= {"is_main_process": is_main_process, "state_dict": clean, "push_to_hub": push_to_hub}
            self._own("save_pretrained")(save_directory, **kwargs)
            return
        sharded = is_sharded(self.model)
        if (state_dict is not None and not sharded) or push_to_hub:
            what = "push_to_hub=True: call model.push_to_hub(name)" if push_to_hub else "state_dict=: leave it out"
            raise AdapterlabError(f"an attached adapter cannot be saved with {what}")
        folder = Path(save_directory)
        beside = {path for handle in self.handles for path in (*handle.new_heads, *handle.trained_too)}
        if sharded and state_dict is None:
            on_first(self.model, lambda path: in_adapter(path) or path in beside, lambda: self._write(folder))
        elif is_main_process:
            with whole(self.model, lambda path: in_adapter(path) or path in beside, state_dict):
                self._write(folder)

    def _write(self, folder: Path) -> None:
        top = self.handles[-1]
        self._warn_of_missing_updates()
        names = [f"{i}_{handle.name}" for i, handle in enumerate(self.handles[:-1])]
        for name, handle in zip(names, self.handles, strict=False):
            handle._write(folder / name)
        top._write(folder, below=names, beside=base_tensor(top))
        write_for_resume(top, folder)
        write_card(top, folder)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load the topmost adapter from the file that `save_pretrained` wrote, or else the model as its class does.

        Args:
            state_dict: Content of a checkpoint's `model.safetensors`, or a state of the whole model.
            strict: As for `nn.Module`.
            assign: As for `nn.Module`.

        Returns:
            The missing and unexpected keys, as `nn.Module` returns them.
        """
        if not any("/" in key for key in state_dict):
            return self._own("load_state_dict")(state_dict, strict=strict, assign=assign)
        restore_into(self.handles[-1], state_dict)
        self._start[-1] = _position(self.handles[-1])
        return _IncompatibleKeys([], [])

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str = "Upload adapter",
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Upload what `save_pretrained` writes, with the adapter's model card; a merged model as its class does.

        Args:
            repo_id: Name of the repository; created if it does not exist.
            commit_message: Message of the commit.
            private: True for a private repository, if it is created.
            token: Token of the hub; the stored one if None.
            revision: Branch to upload to.
            create_pr: True to open a pull request.
            **kwargs: Arguments of `PreTrainedModel.push_to_hub`, used for a merged model alone.

        Returns:
            Information on the commit, from the hub.

        Raises:
            AdapterlabError: There are other arguments, and the model is not merged.
        """
        known: dict[str, Any] = {"commit_message": commit_message, "revision": revision, "create_pr": create_pr}
        if self._merged:
            return self._own("push_to_hub")(repo_id, private=private, token=token, **known, **kwargs)
        if kwargs:
            raise AdapterlabError(f"an attached adapter is uploaded without {', '.join(kwargs)}: leave it out")
        api = HfApi(token=token)
        name = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return api.upload_folder(repo_id=name, folder_path=folder, **known)

    @property
    def _merged(self) -> bool:
        return all(site.merged for handle in self.handles for site in handle.sites.values())

    def _own(self, name: str) -> Callable[..., Any]:
        """Return the model's own method: the one that was set on the instance before, or that of its class."""
        own: Callable[..., Any] = self._replaced.get(name) or getattr(type(self.model), name).__get__(self.model)
        return own

    def create_or_update_model_card(self, output_dir: str | os.PathLike[str]) -> None:
        """Put the card of the topmost adapter before the text of the card in a folder.

        Args:
            output_dir: A folder with a `README.md`.
        """
        extend_card(self.handles[-1], Path(output_dir))

    def _warn_of_missing_updates(self) -> None:
        """Warn that an adapter was trained without the updates or the penalty that its method has."""
        top = self.handles[-1]
        if not top.steps_taken and _position(top) != self._start[-1]:
            warnings.warn(
                f"{top.adapter.name} was trained without its own update after each step and its penalty: give Trainer "
                "callbacks=[adapterlab.TrainerCallback(handle)], or call handle.after_step and add handle.regularizer()",
                stacklevel=4,
            )


@torch.no_grad()
def _position(handle: Handle) -> float | None:
    """Return a number that training changes; None if the method has no update or penalty of its own."""
    if type(handle.adapter).after_step is Adapter.after_step and handle.regularizer() is None:
        return None
    return float(sum(p.double().abs().sum() for p in handle.parameters()))
