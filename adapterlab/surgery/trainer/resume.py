"""The file from which Trainer resumes: the state of an attached adapter, and its way back into an attached adapter.

>>> from tempfile import TemporaryDirectory
>>> from safetensors.torch import load_file
>>> from adapterlab import adapter, attach
>>> handle = attach(torch.nn.Sequential(torch.nn.Linear(4, 4)), adapter("lora", rank=2))
>>> with TemporaryDirectory() as folder:
...     handle._write(folder, beside=base_tensor(handle))
...     write_for_resume(handle, Path(folder))
...     restore_into(handle, load_file(f"{folder}/model.safetensors"))
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from adapterlab.adapters.base import Adapter
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.adapter_files import (
    NEW_HEADS,
    TENSORS,
    TRAINED_TOO,
    sketch,
    tensors_of,
    whole_tensors,
    write_tensors,
)
from adapterlab.surgery.handle import Handle
from adapterlab.surgery.model.fingerprint import difference, stored_otherwise
from adapterlab.surgery.model.sharded import assign
from adapterlab.surgery.tensor_file import BASE_FINGERPRINT

WEIGHTS = "model.safetensors"
"""File from which Trainer resumes."""


def base_tensor(handle: Handle) -> dict[str, Tensor]:
    """Return the fingerprints of the base as a tensor of bytes by its name, for the file from which Trainer resumes.

    Trainer passes on the tensors of that file and nothing else of the checkpoint.

    Args:
        handle: The adapter.
    """
    return {BASE_FINGERPRINT: torch.frombuffer(bytearray(json.dumps(dict(handle.base)).encode()), dtype=torch.uint8)}


def write_for_resume(handle: Handle, folder: Path) -> None:
    """Write the whole state of an adapter to `model.safetensors`, in a folder that has its files and the `base_tensor`.

    It is a second name of `adapter.safetensors`, unless the method saves a shorter form from which training could not
    continue.

    Args:
        handle: The adapter.
        folder: The folder.
    """
    file = folder / WEIGHTS
    file.unlink(missing_ok=True)
    if type(handle.adapter).pack is not Adapter.pack:
        tensors, _ = tensors_of({path: site.state for path, site in handle.sites.items()})
        write_tensors(file, tensors | whole_tensors(handle.new_heads, handle.trained_too) | base_tensor(handle))
        return
    try:
        os.link(folder / TENSORS, file)
    except OSError:  # a file system without hard links
        shutil.copyfile(folder / TENSORS, file)


@torch.no_grad()
def restore_into(handle: Handle, tensors: Mapping[str, Tensor]) -> None:
    """Set an attached adapter, its new heads and `trained_too` to saved values.

    Args:
        handle: The attached adapter, of the same method and sizes as the saved one.
        tensors: Content of the file that `write_for_resume` wrote.

    Raises:
        AdapterlabError: The tensors are those of another adapter, or of one on another base. Nothing is changed.
    """
    handle._follow()
    copies: list[tuple[Tensor, Tensor]] = []
    shared: dict[Tensor, Tensor] = {}
    for path, site in handle.sites.items():
        state = site.state
        for name, derived in state.derived.items():
            _check_sketch(tensors, f"{path}/{name}.sketch", derived)
        for name, own in (*state.trainable.items(), *state.frozen.items()):
            copies.append((own, _saved(tensors, f"{path}/{name}", own, shared)))
    for key, parameters in ((NEW_HEADS, handle.new_heads), (TRAINED_TOO, handle.trained_too)):
        copies += [(p, _saved(tensors, f"{key}/{path}", p, shared)) for path, p in parameters.items()]
    _check_base(handle, tensors.get(BASE_FINGERPRINT))
    for own, saved in copies:
        assign(own, saved)


def _saved(tensors: Mapping[str, Tensor], key: str, like: Tensor, shared: dict[Tensor, Tensor]) -> Tensor:
    """Return the saved tensor of a key; a tensor that several sites share was written under the first key alone."""
    stored = tensors.get(key, shared.get(like))
    if stored is None or stored.shape != like.shape:
        found = "nothing" if stored is None else tuple(stored.shape)
        raise AdapterlabError(
            f"the checkpoint is of another adapter: at {key} it holds {found}, the attached one {tuple(like.shape)}; "
            "attach the method with the settings and targets in the checkpoint's adapter.json"
        )
    return shared.setdefault(like, stored)


def _check_base(handle: Handle, stored: Tensor | None) -> None:
    """Raise an error if a checkpoint was made on another base; warn if that cannot be compared."""
    if stored is None:
        warnings.warn(
            "the checkpoint has no fingerprint of the base, since an older version wrote it: make sure that this model is "
            "the one that it was made on",
            stacklevel=5,
        )
        return
    try:
        saved = json.loads(stored.cpu().numpy().tobytes())
        if not isinstance(saved, dict) or not all(isinstance(text, str) for text in saved.values()):
            raise ValueError("it holds no texts by name")
        found, quantized = difference(saved, handle.base), stored_otherwise(saved, handle.base)
    except ValueError as error:
        raise AdapterlabError(
            f"the checkpoint is damaged ({BASE_FINGERPRINT}: {error}): resume from another one"
        ) from error
    if found:
        raise AdapterlabError(
            f"the checkpoint was made on another base: in this model {found}; load the base that it was made on"
        )
    if quantized:
        warnings.warn(
            f"the checkpoint was made on a base that stores {quantized} in another way, quantized or not: such weights were "
            "not compared",
            stacklevel=5,
        )


def _check_sketch(tensors: Mapping[str, Tensor], key: str, derived: Tensor) -> None:
    stored, own = tensors.get(key), sketch(derived).cpu()
    if stored is None or stored.shape != own.shape or (stored - own).abs().max() > 0.01 * stored.abs().max():
        raise AdapterlabError(
            f"the checkpoint was made on another base: {key} differs; load the base that it was made on"
        )
