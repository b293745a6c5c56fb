"""Read GGUF files, and refuse those that hold something that their conversion would lose.

>>> ARCHITECTURES
('llama', 'qwen2', 'qwen3')
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from adapterlab.errors import AdapterlabError

ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""Architectures whose conversion is tested; Mistral's models are of the first one."""
READ_KEYS = (
    *("block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size"),
    *("attention.head_count", "attention.head_count_kv", "attention.layer_norm_rms_epsilon"),
    *("rope.freq_base", "rope.dimension_count"),
)
"""Keys below the architecture's name that the converted configuration holds."""
HEAD_KEYS = ("attention.key_length", "attention.value_length", "rope.dimension_count")
"""Keys that must agree with the size of a head in the converted configuration."""
_PLAIN_SPLITS = ("gpt-2", "default")
"""Ways to split text that are those of GPT-2, or of SentencePiece."""
_SMOLLM = "smollm"


def require_reader() -> None:
    """Check that the packages that read GGUF files are installed.

    Raises:
        AdapterlabError: If one is missing.
    """
    for package in ("gguf", "accelerate"):
        if find_spec(package) is None:
            raise AdapterlabError(f"reading GGUF needs the package {package}: pip install 'adapterlab[gguf]'")


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, for a message of one line.

    Args:
        error: The error.
    """
    text = str(error).strip() or type(error).__name__
    return text.split("\n")[0].rstrip(".")


def read(file: Path) -> Any:
    """Return the reader of a file, with its metadata and tensors.

    Args:
        file: The GGUF file.

    Raises:
        AdapterlabError: If the file is no GGUF file, is not whole, or has an unknown quantization.
    """
    from gguf import GGUFReader

    with file.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise AdapterlabError(f"{file} is not a GGUF file: give one, a folder of a model, or an id on the hub")
    try:
        return GGUFReader(file)
    except Exception as error:  # the bytes can be anything
        if "GGMLQuantizationType" in str(error):
            raise AdapterlabError(
                f"{file} has an unknown quantization ({first_line(error)}): take another file"
            ) from error
        raise AdapterlabError(
            f"{file} is damaged or only part of a file ({first_line(error)}): get it again"
        ) from error


def check(file: Path, metadata: Mapping[str, Any], tensors: Iterable[Any]) -> None:
    """Check that a file can be converted without a loss.

    Args:
        file: The GGUF file, for messages.
        metadata: Its metadata, without long lists.
        tensors: Its tensors.

    Raises:
        AdapterlabError: If it cannot.
    """
    from gguf import GGMLQuantizationType
    from gguf.quants import _type_traits

    architecture = metadata.get("general.architecture", "none")
    if architecture not in ARCHITECTURES:
        raise AdapterlabError(
            f"{file} holds a model of the architecture {architecture!r}: known are {', '.join(ARCHITECTURES)}"
        )
    if int(metadata.get("split.count", 1)) > 1:
        raise AdapterlabError(f"{file} is one part of {metadata['split.count']}: join them with `gguf-split --merge`")
    known = {f"{architecture}.{key}" for key in (*READ_KEYS, *HEAD_KEYS)}
    for key, value in metadata.items():
        if key.startswith(f"{architecture}.") and key not in known and value not in (0, "none", False):
            raise AdapterlabError(f"{file} sets {key} = {value}, which transformers would ignore: it is not converted")
    floats = {GGMLQuantizationType.F32, GGMLQuantizationType.F16}
    for tensor in tensors:
        if tensor.tensor_type not in floats and tensor.tensor_type not in _type_traits:
            raise AdapterlabError(
                f"{file} is quantized as {tensor.tensor_type.name}, which the package gguf cannot read: take another file"
            )
        if tensor.name.startswith("rope_"):
            raise AdapterlabError(f"{file} scales its rotary embeddings ({tensor.name}): it is not converted")
    if "tokenizer.ggml.model" not in metadata:
        raise AdapterlabError(f"{file} has no tokenizer: it is not converted")
    _known_split(file, str(metadata["tokenizer.ggml.model"]), str(metadata.get("tokenizer.ggml.pre", "default")))


def _known_split(file: Path, model: str, split: str) -> None:
    """Raise an error if the tokenizer splits text in a way that transformers would silently replace by GPT-2's."""
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    known = (*GGUF_PRE_TOKENIZER_SPLITS, *_PLAIN_SPLITS, _SMOLLM)
    if model not in ("gpt2", "llama") or (model == "gpt2" and split not in known):
        raise AdapterlabError(f"{file} has a tokenizer of an unknown kind ({model}, {split}): it is not converted")


def check_heads(file: Path, metadata: Mapping[str, Any], config: Any) -> None:
    """Check that the size of a head in the file is that of the configuration.

    Args:
        file: The GGUF file, for messages.
        metadata: Its metadata.
        config: The converted model's configuration.

    Raises:
        AdapterlabError: If it is another one.
    """
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    for key in HEAD_KEYS:
        stated = metadata.get(f"{metadata['general.architecture']}.{key}", size)
        if stated != size:
            raise AdapterlabError(
                f"{file} states {key} = {stated}, but its heads have {size} entries: it is not converted"
            )


def fix_split(tokenizer: Any, split: str) -> None:
    """Split digits one by one if the tokenizer is SmolLM's, which does so before it splits words as GPT-2's does.

    Transformers know other splits by their names, and take GPT-2's for this one.

    Args:
        tokenizer: The converted tokenizer.
        split: Name of the split in the file.
    """
    if split == _SMOLLM:
        from tokenizers import pre_tokenizers

        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
