"""An adapter on disk: a folder with `adapter.json` (what it is) and `adapter.safetensors` (its tensors).

Of what a method derives from the base weight a sketch alone is written, two numbers a vector, by which loading knows that
the base has given the same again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from adapterlab.adapters import adapter as make_adapter
from adapterlab.adapters.state import State
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.attach import Handle, decompositions, initial_states, install, refuse_nan
from adapterlab.surgery.model.new_heads import mark_fresh
from adapterlab.surgery.sites.find import places_for
from adapterlab.surgery.sites.routed import RoutedSite

CARD = "adapter.json"
TENSORS = "adapter.safetensors"
FRESH = "fresh"
"""Before the name of what a model had no values for, such as a classifier's head."""


def save(handle: Handle, folder: Path) -> None:
    """Write `handle` to `folder`, each file whole or not at all. A tensor that sites share is written once."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    written: dict[Tensor, str] = {}
    for path, site in handle.sites.items():
        state = handle.adapter.pack(site.state)
        for name, tensor in (*state.trainable.items(), *state.frozen.items()):
            key = f"{path}/{name}"
            if tensor in written:
                aliases[key] = written[tensor]
            else:
                written[tensor] = key
                tensors[key] = tensor.detach().cpu().contiguous()
        tensors |= {f"{path}/{name}.sketch": sketch(tensor).cpu() for name, tensor in state.derived.items()}
    tensors |= {f"{FRESH}/{name}": parameter.detach().cpu() for name, parameter in handle.fresh.items()}
    card = {
        "adapterlab": version("adapterlab"),
        "adapter": handle.adapter.settings(),
        "targets": handle.targets if isinstance(handle.targets, str) else list(handle.targets),
        "aliases": aliases,
        "fresh": list(handle.fresh),
    }
    partial = folder / f"{TENSORS}.partial"
    save_file(tensors, partial)
    partial.replace(folder / TENSORS)
    partial = folder / f"{CARD}.partial"
    partial.write_text(json.dumps(card, indent=2) + "\n")
    partial.replace(folder / CARD)


def sketch(tensor: Tensor) -> Tensor:
    """Two fixed sums over the longest dimension of `tensor`: two numbers for each vector that it holds."""
    longest = max(range(tensor.ndim), key=lambda d: tensor.shape[d])
    place = torch.arange(tensor.shape[longest], device=tensor.device, dtype=tensor.dtype)
    weights = torch.stack([(0.7 * place).cos(), (1.9 * place).cos()])
    return torch.tensordot(weights, tensor.detach().movedim(longest, 0), 1)


def load(model: nn.Module, folder: str | Path, name: str = "default") -> Handle:
    """Put the adapter that `save` wrote to `folder` on `model`.

    Raises `AdapterlabError` where a file is missing, torn, a pickle, or made for another model; nothing is changed then.
    """
    folder = Path(folder)
    card, stored = _read(folder)
    settings = dict(card["adapter"])
    adapter = make_adapter(settings.pop("name"), **settings)
    heads = _fresh(model, folder, card, stored)
    places = places_for(model, adapter, card["targets"])
    refuse_nan(model)
    expected = initial_states(adapter, places, meta=True)
    aliases: dict[str, str] = card["aliases"]
    derived = {path: state.derived for path, state in expected.items()}
    if any(derived.values()):
        saved = {
            path: {key: stored[name] for key in state.frozen if (name := _source(aliases, path, key)) in stored}
            for path, state in expected.items()
        }
        fresh = initial_states(adapter, places, factors=decompositions(), saved=saved)
        derived = {path: state.derived for path, state in fresh.items()}
    moved: dict[str, Tensor] = {}
    states = {}
    for path, state in expected.items():
        parts: list[dict[str, Tensor]] = []
        packed = adapter.pack(state)
        for side in (packed.trainable, packed.frozen):
            part = {}
            for key, like in side.items():
                source = _source(aliases, path, key)
                if source not in stored or stored[source].shape != like.shape:
                    found = tuple(stored[source].shape) if source in stored else "nothing"
                    raise AdapterlabError(
                        f"{folder} was made for another model: at {path}/{key} it holds {found}, "
                        f"this model needs {tuple(like.shape)}"
                    )
                if source not in moved:
                    # A copy, since bytes in a file are not aligned, and unaligned sums round in another order.
                    moved[source] = stored[source].to(device=places[path].like.device, dtype=like.dtype, copy=True)
                part[key] = moved[source]
            parts.append(part)
        for name, tensor in derived[path].items():
            known = stored.get(f"{path}/{name}.sketch")
            seen = sketch(tensor).cpu()
            if known is None or known.shape != seen.shape or (known - seen).abs().max() > 0.01 * known.abs().max():
                raise AdapterlabError(
                    f"{folder} was trained on another base: at {path} this model's weight gives another {name!r}; "
                    "load it on the model that it was attached to"
                )
        states[path] = adapter.unpack(State(parts[0], parts[1], derived[path]))
    handle = install(model, adapter, card["targets"], name, places, states)
    with torch.no_grad():
        for path, tensor in heads.items():
            handle.fresh[path].copy_(tensor)
    return handle


def _fresh(model: nn.Module, folder: Path, card: Mapping[str, Any], stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The stored values of what no checkpoint had, marked as such on `model`; nothing where the adapter stands alone."""
    values = {path: stored.get(f"{FRESH}/{path}") for path in card.get("fresh", ())}
    known = dict(model.named_parameters())
    for path, value in values.items():
        if value is None or path not in known or known[path].shape != value.shape:
            raise AdapterlabError(
                f"{folder} holds {path}, {tuple(value.shape) if value is not None else 'damaged'}, which this model has "
                "not: load it with as many labels as it was trained on"
            )
    if values:
        mark_fresh(model, values)
    return {path: value for path, value in values.items() if value is not None}


def _source(aliases: dict[str, str], path: str, key: str) -> str:
    return aliases.get(f"{path}/{key}", f"{path}/{key}")


def load_experts(handle: Handle, folders: Sequence[str | Path]) -> None:
    """Put low-rank adapters that `save` wrote in the place of the experts of a routed adapter, one folder an expert.

    Raises `AdapterlabError` where a folder holds another method, another size, or not the layers that are routed.
    """
    sites = [path for path, site in handle.sites.items() if isinstance(site, RoutedSite)]
    experts = getattr(handle.adapter, "experts", 0)
    if not sites or not experts or len(folders) != experts:
        raise AdapterlabError(f"{handle.adapter} has {experts} experts, and {len(folders)} folders were given")
    parts: dict[str, list[Tensor]] = {f"{path}/{key}": [] for path in sites for key in ("a", "b")}
    wanted = {key: getattr(handle.adapter, key) for key in ("rank", "alpha")}
    for folder in folders:
        card, stored = _read(Path(folder))
        settings = card["adapter"]
        if settings["name"] != "lora" or settings.get("rslora") or not wanted.items() <= settings.items():
            raise AdapterlabError(f"{folder} holds {settings}; an expert must be a lora with {wanted}")
        for key, found in parts.items():
            if key not in stored:
                raise AdapterlabError(f"{folder} does not adapt {key.rpartition('/')[0]}: train it on the same targets")
            found.append(stored[key])
    with torch.no_grad():
        for key, found in parts.items():
            path, _, name = key.rpartition("/")
            handle.sites[path].state[name].copy_(torch.stack(found))


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    card_path, tensors_path = folder / CARD, folder / TENSORS
    if not tensors_path.exists():
        pickles = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.pkl") for p in folder.glob(pattern))
        if pickles:
            raise AdapterlabError(
                f"{folder / pickles[0]} is a pickle, which can run code when read; only {TENSORS} is loaded: save it anew"
            )
    for path in (card_path, tensors_path):
        if not path.exists():
            raise AdapterlabError(f"{path} does not exist: is {folder} a folder that save() wrote?")
    try:
        card = json.loads(card_path.read_text())
        card["adapter"]["name"], card["targets"], card["aliases"]
    except (ValueError, KeyError, TypeError) as error:
        raise AdapterlabError(f"{card_path} is damaged ({error!r}); the file was left as it is") from error
    try:
        with safe_open(tensors_path, "pt") as file:
            return card, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise AdapterlabError(f"{tensors_path} is damaged ({error}); the file was left as it is") from error
