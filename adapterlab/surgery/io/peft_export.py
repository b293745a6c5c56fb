"""Export of a trained adapter as a folder that PEFT loads. PEFT itself is not needed to write it.

A method that PEFT has is written in PEFT's own format (see `Adapter.peft_layout`). Any other method whose change has a
bounded rank is written as a plain LoRA with the same change. For the rest, `save_peft` raises `CannotExportError`; the
adapted model can be merged and saved instead.

>>> from tempfile import TemporaryDirectory
>>> from torch import nn
>>> from adapterlab import adapter, attach
>>> handle = attach(nn.Sequential(nn.Linear(4, 4)), adapter("hra", rank=2))
>>> with TemporaryDirectory() as folder:
...     save_peft(handle, folder, base="my-model")
'HRA'
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from adapterlab.adapters.invariants import RankAtMost
from adapterlab.adapters.linear import LinearAdapter
from adapterlab.adapters.peft_layout import CannotExportError, PeftLayout
from adapterlab.adapters.peft_layout import PeftSite as SiteForPeft
from adapterlab.adapters.peft_method import PeftAdapter
from adapterlab.surgery.handle import Handle
from adapterlab.surgery.sites.linear import LinearSite
from adapterlab.surgery.sites.parameter import ParameterSite
from adapterlab.surgery.sites.peft import PeftSite

PREFIX = "base_model.model."
"""Prefix of every layer's path in PEFT's files."""
LARGEST_RANK = 256
"""Largest rank of a LoRA that is written in place of another method."""


def save_peft(handle: Handle, folder: str | Path, base: str, task_type: str | None = "CAUSAL_LM") -> str:
    """Write an adapter, at strength 1, as PEFT's `adapter_config.json` and `adapter_model.safetensors`.

    Args:
        handle: The attached adapter.
        folder: Folder to write to; created if it does not exist.
        base: Folder or hub id that the base model was loaded from.
        task_type: PEFT's name for the kind of head, or None for a kind that PEFT has no name for.

    Returns:
        PEFT's name for the written method, such as `"LORA"`.

    Raises:
        CannotExportError: If PEFT has no equivalent of this adapter. Nothing is written then.
    """
    folder = Path(folder)
    if isinstance(handle.adapter, PeftAdapter):
        folder.mkdir(parents=True, exist_ok=True)
        for site in handle.sites.values():
            cast(PeftSite, site).write_files(
                folder, handle.new_heads, base_model_name_or_path=base, task_type=task_type
            )
        return handle.adapter.peft_type
    layout = _layout(handle)
    config = {"base_model_name_or_path": base, "task_type": task_type, "inference_mode": True, **layout.config}
    tensors = {f"{PREFIX}{key}": tensor for key, tensor in layout.tensors.items()} | dict(layout.shared)
    if layout.prompt_heads is not None:
        config |= _prompt_settings(handle, layout)
    elif isinstance(handle.adapter, LinearAdapter):
        config["target_modules"] = list(handle.sites)
        if _transposed(handle):
            config["fan_in_fan_out"] = True
    if handle.new_heads:
        heads = sorted({name.rpartition(".")[0] for name in handle.new_heads})
        config["modules_to_save"] = heads
        for path in heads:
            module = handle.model.get_submodule(path)
            tensors |= {f"{PREFIX}{path}.{name}": tensor for name, tensor in module.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: t.detach().cpu().contiguous() for key, t in tensors.items()}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    return str(config["peft_type"])


def _layout(handle: Handle) -> PeftLayout:
    """Return the method's own layout, or that of a LoRA with the same change."""
    adapter = handle.adapter
    sites = [SiteForPeft(path, site.state, _base(handle, path)) for path, site in handle.sites.items()]
    if not isinstance(adapter, LinearAdapter):
        layout = adapter.peft_layout(sites)
        if layout is None:
            raise CannotExportError(f"PEFT has no equivalent of {adapter.name}")
        return layout
    reasons = []
    try:
        layout = adapter.peft_layout(sites)
        if layout is not None and (layout.transposable or not _transposed(handle)):
            return layout
    except CannotExportError as error:
        reasons.append(str(error))
    try:
        return _low_rank(handle)
    except CannotExportError as error:
        reasons.append(str(error))
    raise CannotExportError(f"{adapter.name} cannot be written for PEFT: {'; '.join(reasons)}")


def _base(handle: Handle, path: str) -> Tensor:
    site = handle.sites[path]
    if isinstance(site, LinearSite):
        return site.below.weight
    return handle.model.get_parameter(path) if isinstance(site, ParameterSite) else torch.empty(0)


def _transposed(handle: Handle) -> bool:
    """Return True if an adapted layer stores its weight as `(in, out)`."""
    return any(isinstance(handle.model.get_submodule(path), Conv1D) for path in handle.sites)


def _low_rank(handle: Handle) -> PeftLayout:
    """Return the layout of a plain LoRA that changes every weight by the same amount as this adapter."""
    sites = {path: site for path, site in handle.sites.items() if isinstance(site, LinearSite)}
    bounds = [
        invariant.rank(handle.adapter) for invariant in handle.adapter.invariants if isinstance(invariant, RankAtMost)
    ]
    if not bounds:
        raise CannotExportError("its change has no bounded rank")
    rank = min(*bounds, *(side for site in sites.values() for side in site.below.weight.shape))
    if rank > LARGEST_RANK:
        raise CannotExportError(f"its change has rank {rank}")
    tensors = {}
    for path, site in sites.items():
        before, after = site.base_and_adapted()
        if site.bias is not site.below.bias:
            raise CannotExportError(f"it changes biases, as at {path}, and a LoRA does not")
        u, s, vt = torch.linalg.svd((after - before).detach().double(), full_matrices=False)
        if s[rank:].sum() > 1e-5 * s.sum():
            raise CannotExportError(f"at {path} its change has a rank above {rank}")
        root = s[:rank].sqrt()
        tensors[f"{path}.lora_A.weight"] = (root[:, None] * vt[:rank]).float()
        tensors[f"{path}.lora_B.weight"] = (u[:, :rank] * root).float()
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "lora_dropout": 0.0}
    return PeftLayout(config, tensors, transposable=True)


def _prompt_settings(handle: Handle, layout: PeftLayout) -> dict[str, object]:
    """Return the settings of a prompt that depend on the model."""
    if handle.new_heads:
        raise CannotExportError(f"PEFT's {layout.config['peft_type']} cannot train a new head along with the prompt")
    assert isinstance(handle.model, PreTrainedModel)
    model = handle.model.config.get_text_config()
    heads, width = model.num_attention_heads, model.hidden_size
    divided = heads
    if layout.prompt_heads == "key-value":
        divided = getattr(model, "num_key_value_heads", None) or heads
    return {
        "num_layers": model.num_hidden_layers,
        "num_attention_heads": divided,
        "token_dim": width // heads * divided,
        "num_transformer_submodules": 1,
    }
