"""The folder of a saved adapter: `adapter.json` (method, hyperparameters, places) and `adapter.safetensors` (tensors).

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
>>> saved.card.adapter["name"], {key: saved.tensors.shape(key) for key in saved.tensors.names}
('lora', {'0/a': (2, 4), '0/b': (4, 2)})
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from adapterlab.adapters.base import Adapter
from adapterlab.adapters.state import State
from adapterlab.errors import AdapterlabError
from adapterlab.files import write_text, writing
from adapterlab.surgery.card import Card
from adapterlab.surgery.model.fingerprint import difference, stored_otherwise
from adapterlab.surgery.model.where import Where
from adapterlab.surgery.sites.base import Site
from adapterlab.surgery.sites.peft import PeftSite
from adapterlab.surgery.tensor_file import TensorFile

CARD = "adapter.json"
"""File of the method, its hyperparameters and its places."""
TENSORS = "adapter.safetensors"
"""File of the tensors."""
NEW_HEADS = "fresh"
"""Key in `adapter.json`, and first part of the names in `adapter.safetensors`, of new heads."""
TRAINED_TOO = "trained_too"
"""Key in `adapter.json`, and first part of the names in `adapter.safetensors`, of modules trained beside the adapter."""
BELOW = "below"
"""Key in `adapter.json` of the names of the adapters that were attached before."""
BASE = "base"
"""Key in `adapter.json` of the fingerprints of the base's parameters."""
LARGEST_CARD = 64 * 2**20
"""Size in bytes above which `adapter.json` is not read."""


@dataclass(frozen=True)
class SavedAdapter:
    """Content of a saved adapter's folder."""

    folder: Path
    """The folder."""
    card: Card
    """Content of `adapter.json`."""
    tensors: TensorFile
    """Tensors by `path/name`, new heads by `fresh/path`."""

    def key(self, path: str, name: str) -> str:
        """Return the key in `tensors` of a tensor of a site, whether or not it was written.

        Args:
            path: Path of the site.
            name: Name of the tensor in the site's state.
        """
        own = f"{path}/{name}"
        return self.card.aliases.get(own, own)

    def check_base(self, own: Mapping[str, str]) -> None:
        """Compare the base that the adapter was trained on with another; warn if the card does not describe it.

        Args:
            own: Fingerprints of the other base.

        Raises:
            AdapterlabError: It is another base.
        """
        if self.card.base is None:
            warnings.warn(
                f"{self.folder / CARD} has no fingerprint of the base, since an older version wrote it: make sure that "
                "this model is the one that it was trained on, and save it again",
                stacklevel=4,
            )
            return
        try:
            found, quantized = difference(self.card.base, own), stored_otherwise(self.card.base, own)
        except ValueError as error:
            raise AdapterlabError(f"{self.folder / CARD} is damaged (base: {error})") from error
        if found:
            merged = ", or on which adapters were merged since" if self.card.below else ""
            raise AdapterlabError(
                f"{self.folder} was trained on another base{merged}: in this model {found}; load it on the model that it "
                "was attached to, or give any_base=True"
            )
        if quantized:
            warnings.warn(
                f"{self.folder} was trained on a base that stores {quantized} in another way, quantized or not: such "
                "weights were not compared, and outputs will differ a little",
                stacklevel=4,
            )


def write(
    folder: Path,
    adapter: Adapter,
    where: Where,
    sites: Mapping[str, Site],
    new_heads: Mapping[str, Tensor],
    trained_too: Mapping[str, Tensor] | None = None,
    below: Sequence[str] = (),
    base: Mapping[str, str] | None = None,
    beside: Mapping[str, Tensor] | None = None,
) -> None:
    """Write an adapter to a folder, each file completely or not at all.

    Args:
        folder: The folder; created if it does not exist.
        adapter: The method and its hyperparameters.
        where: The choice of places that it was attached to.
        sites: Sites by path. A tensor that several sites share is written once.
        new_heads: New heads by path.
        trained_too: Other parameters that were trained beside the adapter, by path.
        below: Names of the adapters that were attached before this one.
        base: Fingerprints of the base's parameters.
        beside: Other tensors to write to the same file, by name.
    """
    trained_too = trained_too or {}
    folder.mkdir(parents=True, exist_ok=True)
    tensors, aliases = tensors_of({path: adapter.pack(site.state) for path, site in sites.items()})
    tensors |= whole_tensors(new_heads, trained_too)
    card = {
        "adapterlab": version("adapterlab"),
        "adapter": adapter.settings(),
        **where.as_data(),
        "aliases": aliases,
        NEW_HEADS: list(new_heads),
        TRAINED_TOO: list(trained_too),
        BELOW: list(below),
        BASE: dict(base or {}),
    }
    write_tensors(folder / TENSORS, tensors | dict(beside or {}))
    write_text(folder / CARD, json.dumps(card, indent=2) + "\n")
    for site in sites.values():
        if isinstance(site, PeftSite):
            site.write_files(folder, {**new_heads, **trained_too})


def write_tensors(file: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors to a file, completely or not at all.

    Args:
        file: The file; replaced if it exists.
        tensors: Tensors by name.
    """
    with writing(file) as partial:
        save_file(tensors, partial)


def tensors_of(states: Mapping[str, State]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of all sites as they are written.

    Args:
        states: States by path. A tensor that several of them share is returned once.

    Returns:
        Tensors by `path/name`, on the CPU; and by the name of each tensor that is left out, the name that it has.
    """
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    written: dict[Tensor, str] = {}
    for path, state in states.items():
        for name, tensor in (*state.trainable.items(), *state.frozen.items()):
            key = f"{path}/{name}"
            if tensor in written:
                aliases[key] = written[tensor]
            else:
                written[tensor] = key
                tensors[key] = tensor.detach().cpu().contiguous()
        tensors |= {f"{path}/{name}.sketch": sketch(tensor).cpu() for name, tensor in state.derived.items()}
    return tensors, aliases


def whole_tensors(new_heads: Mapping[str, Tensor], trained_too: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the parameters that are trained beside the adapter as they are written, on the CPU.

    Args:
        new_heads: New heads by path.
        trained_too: Other parameters by path.
    """
    groups = {NEW_HEADS: new_heads, TRAINED_TOO: trained_too}
    return {
        f"{key}/{path}": p.detach().cpu().contiguous() for key, group in groups.items() for path, p in group.items()
    }


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
        Its content; of the tensors the header alone is read.

    Raises:
        AdapterlabError: A file is missing or damaged, or the tensors are a pickle.
    """
    card_path, tensors_path = folder / CARD, folder / TENSORS
    if not card_path.exists() and (other := _other_folder(folder)):
        raise AdapterlabError(f"{folder} {other}")
    if not tensors_path.exists():
        pickles = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.pkl") for p in folder.glob(pattern))
        if pickles:
            raise AdapterlabError(
                f"{folder / pickles[0]} is a pickle, which can run code when read; only {TENSORS} is loaded: "
                "save the adapter again with adapterlab"
            )
    if not card_path.is_file():
        raise AdapterlabError(f"{card_path} does not exist: is {folder} a folder that save() wrote?")
    try:
        if card_path.stat().st_size > LARGEST_CARD:
            raise ValueError(f"it has more than {LARGEST_CARD >> 20} MiB")
        card = Card.parse(card_path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise AdapterlabError(f"{card_path} is damaged ({error}); the file was left as it is") from error
    return SavedAdapter(folder, card, TensorFile(tensors_path))


def _other_folder(folder: Path) -> str | None:
    """Return the end of an error message for a folder that another library wrote, or None for an unknown one."""
    names = {path.name for path in folder.glob("*")}
    if "adapter_config.json" in names:
        return "is a PEFT folder: use adapterlab.load_peft(model, folder)"
    whole = any(
        name.startswith(("model", "pytorch_model")) and name.endswith((".safetensors", ".bin")) for name in names
    )
    if "trainer_state.json" in names and whole:
        return (
            "is a Trainer checkpoint of the whole model: load it with from_pretrained; checkpoints hold the adapter alone "
            "if it is attached to a model of transformers with adapterlab.attach"
        )
    if whole and "config.json" in names:
        return "holds a whole model and no adapter: load it with from_pretrained"
    checkpoints = sorted(path.name for path in folder.glob("checkpoint-*") if (path / CARD).exists())
    return (
        f"holds no adapter but checkpoints: load one of them, such as {folder / checkpoints[-1]}"
        if checkpoints
        else None
    )
