"""A trained adapter as a folder that PEFT loads. Nothing of PEFT is needed to write it.

Each method that PEFT has is written as PEFT's own; what is low-rank otherwise, as the plain LoRA that changes the weights by
the same. What neither holds for is named, and can be saved merged.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file
from transformers.pytorch_utils import Conv1D

from adapterlab.adapters.base import LinearAdapter
from adapterlab.surgery.handle import Handle
from adapterlab.surgery.io.peft_layouts import NATIVE, TRANSPOSED, WHOLE, CannotExportError, Folder, Layer, low_rank
from adapterlab.surgery.sites.linear import LinearSite

PREFIX = "base_model.model."


def save_peft(handle: Handle, folder: str | Path, base: str, task_type: str | None = "CAUSAL_LM") -> str:
    """Write `handle` at strength 1 as PEFT's `adapter_config.json` and `adapter_model.safetensors`; gives PEFT's name.

    `base` is what the model was loaded from, `task_type` PEFT's name of its head. Raises `CannotExportError`, with nothing
    written, where PEFT has no such method, or has one that does something else.
    """
    found = _folder(handle)
    config = {"base_model_name_or_path": base, "task_type": task_type, "inference_mode": True, **found.config}
    tensors = {f"{PREFIX}{key}": tensor for key, tensor in found.tensors.items()} | found.shared
    if handle.new_heads:
        config["modules_to_save"] = sorted({name.rpartition(".")[0] for name in handle.new_heads})
        for path in config["modules_to_save"]:
            module = handle.model.get_submodule(path)
            tensors |= {f"{PREFIX}{path}.{name}": tensor for name, tensor in module.state_dict().items()}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: t.detach().cpu().contiguous() for key, t in tensors.items()}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    return str(config["peft_type"])


def _folder(handle: Handle) -> Folder:
    layers = [
        Layer(path, handle.model.get_submodule(path), site)
        for path, site in handle.sites.items()
        if isinstance(site, LinearSite)
    ]
    name, adapter = handle.adapter.name, handle.adapter
    if name in WHOLE:
        return WHOLE[name](handle)
    if not isinstance(adapter, LinearAdapter) or not layers:
        raise CannotExportError(f"PEFT keeps no {name} that this one can be written as")
    transposed = any(isinstance(layer.module, Conv1D) for layer in layers)
    makers = [NATIVE[name]] if name in NATIVE and not (transposed and name not in TRANSPOSED) else []
    reasons = []
    for make in (*makers, low_rank):
        try:
            found = make(adapter, layers)
        except CannotExportError as error:
            reasons.append(str(error))
            continue
        found.config["target_modules"] = list(handle.sites)
        if transposed:
            found.config["fan_in_fan_out"] = True
        return found
    raise CannotExportError(f"{name} cannot be written for PEFT: {'; '.join(reasons)}")
