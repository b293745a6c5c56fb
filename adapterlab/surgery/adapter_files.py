"""The folder of a saved adapter: `adapter.json` (method, hyperparameters, targets) and `adapter.safetensors` (tensors).

The folder of a method of PEFT is one that PEFT loads too.

Tensors that a method derives from the base weight are not written. A sketch of two numbers for each of their vectors is
written instead, by which loading checks that the base is the same.

>>> import tempfile
>>> from adapterlab.adapters import adapter
>>> from adapterlab.surgery import attach
>>> model = torch.nn.Sequential(torch.nn.Linear(4, 4))
>>> with tempfile.TemporaryDirectory() as folder:
...     attach(model, adapter("lora", rank=2)).save(folder)
...     saved = read(Path(folder))
>>> saved.settings["name"], {key: tuple(t.shape) for key, t in saved.tensors.items()}
('lora', {'0/a': (2, 4), '0/b': (4, 2)})
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from adapterlab.adapters.base import Adapter
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.model.linear_layers import Targets
from adapterlab.surgery.sites.base import Site
from adapterlab.surgery.sites.peft import PeftSite

CARD = "adapter.json"
"""File of the method, its hyperparameters and targets."""
TENSORS = "adapter.safetensors"
"""File of the tensors."""
NEW_HEADS = "fresh"
"""Key in `adapter.json`, and first part of the names in `adapter.safetensors`, of new heads."""


@dataclass(frozen=True)
class SavedAdapter:
    """Content of a saved adapter's folder."""

    folder: Path
    """The folder."""
    settings: dict[str, Any]
    """The method's `name` and its hyperparameters."""
    targets: Targets
    """The targets that the adapter was attached to."""
    tensors: dict[str, Tensor]
    """Tensors by `path/name`, new heads by `fresh/path`."""
    aliases: dict[str, str]
    """For tensors that several sites share: the name that was written, by each of the others."""
    new_heads: Sequence[str]
    """Paths of the new heads."""

    def key(self, path: str, name: str) -> str:
        """Return the key in `tensors` of a tensor of a site, whether or not it was written.

        Args:
            path: Path of the site.
            name: Name of the tensor in the site's state.
        """
        own = f"{path}/{name}"
        return self.aliases.get(own, own)


def write(
    folder: Path,
    adapter: Adapter,
    targets: Targets,
    sites: Mapping[str, Site],
    new_heads: Mapping[str, Tensor],
) -> None:
    """Write an adapter to a folder, each file completely or not at all.

    Args:
        folder: The folder; created if it does not exist.
        adapter: The method and its hyperparameters.
        targets: The targets that it was attached to.
        sites: Sites by path. A tensor that several sites share is written once.
        new_heads: New heads by path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    written: dict[Tensor, str] = {}
    for path, site in sites.items():
        state = adapter.pack(site.state)
        for name, tensor in (*state.trainable.items(), *state.frozen.items()):
            key = f"{path}/{name}"
            if tensor in written:
                aliases[key] = written[tensor]
            else:
                written[tensor] = key
                tensors[key] = tensor.detach().cpu().contiguous()
        tensors |= {f"{path}/{name}.sketch": sketch(tensor).cpu() for name, tensor in state.derived.items()}
    tensors |= {f"{NEW_HEADS}/{path}": parameter.detach().cpu() for path, parameter in new_heads.items()}
    card = {
        "adapterlab": version("adapterlab"),
        "adapter": adapter.settings(),
        "targets": targets if isinstance(targets, str) else list(targets),
        "aliases": aliases,
        NEW_HEADS: list(new_heads),
    }
    partial = folder / f"{TENSORS}.partial"
    save_file(tensors, partial)
    partial.replace(folder / TENSORS)
    partial = folder / f"{CARD}.partial"
    partial.write_text(json.dumps(card, indent=2) + "\n")
    partial.replace(folder / CARD)
    for site in sites.values():
        if isinstance(site, PeftSite):
            site.write_files(folder, new_heads)


def sketch(tensor: Tensor) -> Tensor:
    """Return two fixed weighted sums over the longest dimension of a tensor.

    Args:
        tensor: A tensor of one dimension or more.

    Returns:
        The sums, `(2, ...)` with the other dimensions.
    """
    longest = max(range(tensor.ndim), key=lambda d: tensor.shape[d])
    place = torch.arange(tensor.shape[longest], device=tensor.device, dtype=tensor.dtype)
    weights = torch.stack([(0.7 * place).cos(), (1.9 * place).cos()])
    sums: Tensor = torch.tensordot(weights, tensor.detach().movedim(longest, 0), 1)
    return sums


def read(folder: Path) -> SavedAdapter:
    """Read the folder of a saved adapter.

    Args:
        folder: A folder that `write` wrote.

    Returns:
        Its content, with the tensors on the CPU.

    Raises:
        AdapterlabError: A file is missing or damaged, or the tensors are a pickle.
    """
    card_path, tensors_path = folder / CARD, folder / TENSORS
    if not tensors_path.exists():
        pickles = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.pkl") for p in folder.glob(pattern))
        if pickles:
            raise AdapterlabError(
                f"{folder / pickles[0]} is a pickle, which can run code when read; only {TENSORS} is loaded: "
                "save the adapter again with adapterlab"
            )
    for path in (card_path, tensors_path):
        if not path.exists():
            raise AdapterlabError(f"{path} does not exist: is {folder} a folder that save() wrote?")
    try:
        card = json.loads(card_path.read_text())
        settings, targets, aliases = dict(card["adapter"]), card["targets"], card["aliases"]
        settings["name"]
    except (ValueError, KeyError, TypeError) as error:
        raise AdapterlabError(f"{card_path} is damaged ({error!r}); the file was left as it is") from error
    try:
        with safe_open(tensors_path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise AdapterlabError(f"{tensors_path} is damaged ({error}); the file was left as it is") from error
    return SavedAdapter(folder, settings, targets, tensors, aliases, card.get(NEW_HEADS, ()))
