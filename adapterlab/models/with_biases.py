"""The embedded model with a bias of zero at every linear layer: the same function, with biases that can be trained.

No model without a download has biases, and methods that train biases alone cannot be compared on one without them. A bias of
zero changes no output, so every other method is trained from the same start as on the embedded model.

>>> import tempfile
>>> with tempfile.TemporaryDirectory() as folder:
...     write_with_biases(Path(folder) / "model")
10752
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from adapterlab.errors import AdapterlabError
from adapterlab.models.fingerprint import EMBEDDED, folder_of

FLAGS = ("attention_bias", "mlp_bias")
"""Settings of the model's configuration that give its linear layers biases."""
WEIGHTS, CONFIG = "model.safetensors", "config.json"


def write_with_biases(folder: Path) -> int:
    """Write the embedded model with biases of zero to a new folder, whole or not at all.

    The files are the same on every machine, and so are the ids of trials on the model.

    Args:
        folder: A folder that does not exist.

    Returns:
        Number of biases.

    Raises:
        AdapterlabError: If the folder exists or cannot be written.
    """
    if folder.exists():
        raise AdapterlabError(f"{folder} exists: give a folder that does not, or remove it")
    base = folder_of(EMBEDDED)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
            partial = Path(temporary) / "model"
            shutil.copytree(base, partial, ignore=shutil.ignore_patterns("README.md"))
            config = json.loads((base / CONFIG).read_text("utf-8"))
            (partial / CONFIG).write_text(json.dumps(config | dict.fromkeys(FLAGS, True), indent=2) + "\n", "utf-8")
            weights = load_file(base / WEIGHTS)
            biases = {
                f"{name.removesuffix('.weight')}.bias": torch.zeros(len(weight), dtype=weight.dtype)
                for name, weight in weights.items()
                if name.endswith("_proj.weight")
            }
            save_file(weights | biases, partial / WEIGHTS, metadata={"format": "pt"})
            partial.rename(folder)
    except OSError as error:
        raise AdapterlabError(f"cannot write {folder}: {error.strerror or error}") from error
    return sum(map(len, biases.values()))
