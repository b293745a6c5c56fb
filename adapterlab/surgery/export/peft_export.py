"""Export of a trained adapter as a folder that PEFT loads. PEFT itself is not needed to write it.

A method that PEFT has is written in PEFT's own format (see `Adapter.peft_layout`). Any other method whose change has a
bounded rank is written as a plain LoRA with the same change. The rest is not written exactly: `export_peft` can write the
nearest LoRA of a given rank, and states its error.

>>> from tempfile import TemporaryDirectory
>>> from torch import nn
>>> from adapterlab import adapter, attach
>>> handle = attach(nn.Sequential(nn.Linear(4, 4)), adapter("hra", rank=2))
>>> with TemporaryDirectory() as folder:
...     save_peft(handle, folder, base="my-model")
'HRA'
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from adapterlab.adapters.base import Adapter
from adapterlab.adapters.invariants import RankAtMost
from adapterlab.adapters.linear import LinearAdapter
from adapterlab.adapters.peft_layout import CannotExportError, PeftLayout, PeftSite
from adapterlab.adapters.peft_method import PeftAdapter
from adapterlab.surgery.export.attached import Attached
from adapterlab.surgery.export.merged import changes_weight
from adapterlab.surgery.export.nearest import Change
from adapterlab.surgery.export.task_type import task_type_of
from adapterlab.surgery.model.trained_modules import head_modules
from adapterlab.surgery.sites.linear import LinearSite
from adapterlab.surgery.sites.parameter import ParameterSite
from adapterlab.surgery.sites.peft import PeftSite as InjectedSite

PREFIX = "base_model.model."
"""Prefix of every layer's path in PEFT's files."""
LARGEST_RANK = 256
"""Largest rank of a LoRA that is written in place of another method."""
PATTERNS = {"r": "rank_pattern", "lora_alpha": "alpha_pattern", "alpha": "alpha_pattern"}
"""PEFT's settings that may differ between layers, each with the name of the setting that says how."""
WITH_PATTERNS = {"HIRA", "LORA", "LOHA", "LOKR"}
"""PEFT's methods with such patterns."""
EXACT = 1e-5
"""Largest relative error of such a LoRA."""


def save_peft(handle: Attached, folder: str | Path, base: str, task_type: str | None = "CAUSAL_LM") -> str:
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
    if isinstance(handle.adapter, PeftAdapter):
        return _write_by_peft(handle, handle.adapter, Path(folder), base, task_type)
    layout = _layout(handle)
    _write(handle, layout, Path(folder), base, task_type)
    return str(layout.config["peft_type"])


def _write_by_peft(
    handle: Attached, adapter: PeftAdapter, folder: Path, base: str | None, task_type: str | None
) -> str:
    """Write an adapter of PEFT as PEFT does, and return PEFT's name for it."""
    folder.mkdir(parents=True, exist_ok=True)
    for site in handle.sites.values():
        assert isinstance(site, InjectedSite)
        heads = {**handle.new_heads, **handle.trained_too}
        site.write_files(folder, heads, base_model_name_or_path=base, task_type=task_type)
    return adapter.peft_type


@dataclass(frozen=True)
class PeftExport:
    """A folder that PEFT loads."""

    kind: str
    """PEFT's name of the written method, such as `"LORA"`."""
    nearest: int | None = None
    """Rank of the nearest LoRA that was written; None if the folder has exactly the adapter."""
    error: float = 0.0
    """Frobenius norm of the difference to the adapter's change of all weights, divided by that of the change."""
    errors: Mapping[str, float] = field(default_factory=dict)
    """The same for each layer, by path; empty if the folder has exactly the adapter."""


def export_peft(
    handle: Attached, folder: str | Path, base: str | None = None, nearest: int | None = None
) -> PeftExport:
    """Write an adapter as a folder that PEFT loads: exactly, or as the nearest LoRA of a given rank.

    Args:
        handle: The attached adapter, not merged and at strength 1.
        folder: Folder to write to; created if it does not exist.
        base: Folder or hub id of the base model; by default that which the model was loaded from.
        nearest: Rank of the LoRA that is written if PEFT cannot hold the adapter exactly. The folder's README then states
            its errors.

    Returns:
        PEFT's name of the written method, and the errors.

    Raises:
        CannotExportError: PEFT cannot hold the adapter and `nearest` is not given, or the adapter changes something else
            than weights of linear layers. The message has the ranks that give an error of 10 % and 1 %. Nothing is written.
    """
    folder, config = Path(folder), getattr(handle.model, "config", None)
    base = base or getattr(config, "name_or_path", None) or None
    task_type = task_type_of(handle.model)
    if nearest is not None and nearest < 1:
        raise CannotExportError(f"nearest={nearest} is not a rank: give 1 or more")
    if isinstance(handle.adapter, PeftAdapter):
        return PeftExport(_write_by_peft(handle, handle.adapter, folder, base, task_type))
    try:
        layout = _layout(handle)
    except CannotExportError as error:
        if not handle.adapter.mergeable or _unlike(handle):
            raise
        change = Change.of(handle)
        if nearest is None:
            tenth, hundredth = change.rank_for(0.1), change.rank_for(0.01)
            raise CannotExportError(
                f"{error}; the nearest LoRA has an error of 10 % at rank {tenth}, and of 1 % at rank {hundredth}: "
                f"give nearest={tenth}, or write the merged model with save_merged"
            ) from error
    else:
        _write(handle, layout, folder, base, task_type)
        return PeftExport(str(layout.config["peft_type"]))
    rank = min(nearest, change.largest_rank)
    _write(handle, change.layout(rank), folder, base, task_type)
    export = PeftExport("LORA", rank, change.error(rank), change.errors(rank))
    (folder / "README.md").write_text(_readme(handle.adapter, export, base))
    return export


def _readme(adapter: Adapter, export: PeftExport, base: str | None) -> str:
    """Return the text of the README of an approximation."""
    header = ["---", *([f"base_model: {base}"] if base else []), "library_name: peft", "---"]
    rows = [f"| {path} | {error:.2%} |" for path, error in export.errors.items()]
    text = (
        f"A LoRA of rank {export.nearest} that approximates the change of weights of `{adapter}`. Its relative error is "
        f"{export.error:.2%}: the Frobenius norm of the difference to that change, divided by the norm of the change."
    )
    return "\n".join([*header, "", text, "", "| layer | error |", "|---|---|", *rows, ""])


def _write(handle: Attached, layout: PeftLayout, folder: Path, base: str | None, task_type: str | None) -> None:
    """Write PEFT's two files."""
    config = {"base_model_name_or_path": base, "task_type": task_type, "inference_mode": True, **layout.config}
    tensors = {f"{PREFIX}{key}": tensor for key, tensor in layout.tensors.items()} | dict(layout.shared)
    if layout.prompt_heads is not None:
        config |= _prompt_settings(handle, layout)
    else:
        if isinstance(handle.adapter, LinearAdapter):
            config.setdefault("target_modules", list(handle.sites))
        modules = config["target_modules"]
        assert isinstance(modules, list)
        if any(isinstance(handle.model.get_submodule(path), Conv1D) for path in modules):
            config["fan_in_fan_out"] = True
    if whole := [*handle.new_heads, *handle.trained_too]:
        tops = head_modules(handle.model)
        heads = sorted({top if (top := name.split(".")[0]) in tops else name.rpartition(".")[0] for name in whole})
        config["modules_to_save"] = heads
        for path in heads:
            module = handle.model.get_submodule(path)
            tensors |= {f"{PREFIX}{path}.{name}": tensor for name, tensor in module.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: t.detach().cpu().contiguous() for key, t in tensors.items()}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _layout(handle: Attached) -> PeftLayout:
    """Return the method's own layout, or that of a LoRA with the same change."""
    adapter = handle.adapter
    if problem := _unlike(handle):
        raise CannotExportError(problem)
    sites = [PeftSite(path, site.state, _base(handle, path)) for path, site in handle.sites.items()]
    if not isinstance(adapter, LinearAdapter):
        layout = adapter.peft_layout(sites)
        if layout is None:
            raise CannotExportError(f"PEFT has no equivalent of {adapter.name}")
        return layout
    reasons = []
    try:
        layout = _by_settings(handle, sites)
        if layout is not None and (adapter.peft_transposable or not _transposed(handle)):
            return layout
    except CannotExportError as error:
        reasons.append(str(error))
    try:
        return _low_rank(handle)
    except CannotExportError as error:
        reasons.append(str(error))
    raise CannotExportError(f"{adapter.name} cannot be written for PEFT: {'; '.join(reasons)}")


def _by_settings(handle: Attached, sites: Sequence[PeftSite]) -> PeftLayout | None:
    """Return the method's layout, with the ranks and scales that differ between layers as PEFT's patterns."""
    groups: dict[Adapter, list[PeftSite]] = {}
    for site in sites:
        groups.setdefault(handle.sites[site.path].adapter, []).append(site)
    layouts = [(own.peft_layout(group), group) for own, group in groups.items()]
    first = layouts[0][0]
    if len(layouts) == 1 or first is None:
        return first
    tensors: dict[str, Tensor] = {}
    patterns: dict[str, dict[str, object]] = {}
    for layout, group in layouts:
        if layout is None:
            return None
        differing = {key for key in {*first.config, *layout.config} if first.config.get(key) != layout.config.get(key)}
        if not differing <= PATTERNS.keys() or first.config["peft_type"] not in WITH_PATTERNS or layout.shared:
            raise CannotExportError(
                f"PEFT's {first.config['peft_type']} has the same {', '.join(sorted(differing))} everywhere"
            )
        tensors |= layout.tensors
        for key in differing:
            patterns.setdefault(PATTERNS[key], {}).update({site.path: layout.config[key] for site in group})
    return dataclasses.replace(first, config={**first.config, **patterns}, tensors=tensors)


def _unlike(handle: Attached) -> str | None:
    """Return an error message if the files would not give what the adapter gives now."""
    for path, site in handle.sites.items():
        if isinstance(handle.adapter, LinearAdapter) and not isinstance(site, LinearSite):
            return (
                f"{path} is no linear layer, which this export does not know: write the merged model with save_merged"
            )
        if site.merged:
            return f"{path} is merged: unmerge() first"
        if site.strength != 1:
            return (
                f"its strength is {site.strength:g}, and PEFT's files have no strength: set handle.strength = 1 first"
            )
        if any(map(changes_weight, site.neighbours("below"))):
            return (
                f"another adapter is attached below at {path}, and PEFT's files have one: detach it, or use save_merged"
            )
    return None


def _base(handle: Attached, path: str) -> Tensor:
    site = handle.sites[path]
    if isinstance(site, LinearSite):
        return site.below.weight
    return handle.model.get_parameter(path) if isinstance(site, ParameterSite) else torch.empty(0)


def _transposed(handle: Attached) -> bool:
    """Return True if an adapted layer stores its weight as `(in, out)`."""
    return any(isinstance(handle.model.get_submodule(path), Conv1D) for path in handle.sites)


def _low_rank(handle: Attached) -> PeftLayout:
    """Return the layout of a plain LoRA that changes every weight by the same amount as this adapter."""
    bounds = [
        invariant.rank(handle.adapter) for invariant in handle.adapter.invariants if isinstance(invariant, RankAtMost)
    ]
    if not bounds:
        raise CannotExportError("its change has no bounded rank")
    if min(bounds) > LARGEST_RANK:
        raise CannotExportError(f"its change has rank {min(bounds)}")
    change = Change.of(handle)
    rank = min(*bounds, change.largest_rank)
    if change.error(rank) > EXACT:
        raise CannotExportError(f"its change has a rank above {rank}")
    return change.layout(rank)


def _prompt_settings(handle: Attached, layout: PeftLayout) -> dict[str, object]:
    """Return the settings of a prompt that depend on the model."""
    if handle.new_heads or handle.trained_too:
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
