"""GGUF files of Llama-like models, converted once into folders of safetensors in the cache.

A folder is named by the hash of the file's content, so a copy of the file is the same model, and a changed file is another
one. Everything in a file that would change the model and cannot be converted is refused.

>>> converted_folder(Path(__file__)).name[:5]
'gguf-'
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import redirect_stderr
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

from adapterlab.errors import AdapterlabError
from adapterlab.models.gguf_reading import check, check_heads, first_line, fix_split, read, require_reader
from adapterlab.models.stored import CONVERSION, is_stored, making, model_cache

LICENCE, NAME = "general.license", "general.name"
"""Keys of a file's metadata."""
_VOLATILE = ("transformers_version", "quantization_config", "is_local", "local_files_only", "name_or_path")
"""Keys of a configuration that name versions and places, and would make equal models differ."""


def converted(file: Path) -> Path:
    """Return the folder of a GGUF file's model, converting the file if it was not yet.

    Args:
        file: The GGUF file.

    Raises:
        AdapterlabError: If the file is damaged, of an unknown kind, or the package `gguf` is missing.
    """
    folder = converted_folder(file)
    if not is_stored(folder):
        convert(file, folder, {"file": file.name})
    return folder


def converted_folder(file: Path) -> Path:
    """Return where the model of a GGUF file is kept, whether it is converted or not.

    Args:
        file: The GGUF file.

    Raises:
        AdapterlabError: If the file cannot be read.
    """
    try:
        facts = file.stat()
        content = _hash(file.absolute(), facts.st_size, facts.st_mtime_ns)
    except OSError as error:
        raise AdapterlabError(f"cannot read {file}: {error.strerror}") from error
    return model_cache() / f"gguf-{content[:16]}-{CONVERSION}"


def convert(file: Path, folder: Path, facts: dict[str, str]) -> None:
    """Write the model of a GGUF file as safetensors, with its tokenizer, chat template and a card.

    Weights are stored as bfloat16 if the file is quantized, and in the file's own precision if it is not.

    Args:
        file: The GGUF file.
        folder: A folder in `model_cache()`.
        facts: Rows of the card, beside those that the file gives.

    Raises:
        AdapterlabError: If the file is damaged, of an unknown kind, or the package `gguf` is missing.
    """
    require_reader()
    reader = read(file)
    metadata = {name: field.contents() for name, field in reader.fields.items() if len(field.data) < 1000}
    check(file, metadata, reader.tensors)
    with making(folder) as partial:
        # Beside a link of its own, no other file of the user's folder can be taken for a part of the model.
        link = partial / "model.gguf"
        link.symlink_to(file.resolve())
        try:
            model, tokenizer = _load(link, _dtype(reader.tensors))
        except Exception as error:  # transformers raises many types for the same mistakes
            raise AdapterlabError(f"cannot convert {file}: {first_line(error)}") from error
        finally:
            link.unlink()
        check_heads(file, metadata, model.config)
        fix_split(tokenizer, str(metadata.get("tokenizer.ggml.pre", "default")))
        weights = _weights(model)
        if len(weights) != len(reader.tensors):
            raise AdapterlabError(
                f"{file} has {len(reader.tensors)} tensors, but only {len(weights)} of them have a place in transformers' "
                f"{type(model).__name__}: it is not converted"
            )
        _save(model, weights, tokenizer, partial)
        parameters = sum(tensor.numel() for tensor in weights.values())
        known = {"name": str(metadata.get(NAME, "")), "licence": str(metadata.get(LICENCE, "not stated"))}
        made = {"parameters": f"{parameters:,}", "made by": "conversion of the GGUF file to safetensors, by adapterlab"}
        write_card(partial, {**known, **facts, **made})


def card_of(folder: Path) -> dict[str, str]:
    """Return the rows of a converted model's card.

    Args:
        folder: The model's folder.
    """
    lines = (folder / "README.md").read_text("utf-8").splitlines()
    cells = (line.strip("| ").split(" | ") for line in lines if line.startswith("| "))
    return {row[0]: row[1] for row in cells if len(row) == 2}


@cache
def _hash(file: Path, size: int, mtime_ns: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _dtype(tensors: Iterable[Any]) -> Any:
    """Return the dtype to store: the matrices' own, or bfloat16 if any is quantized."""
    import torch

    kinds = {tensor.tensor_type.name for tensor in tensors if len(tensor.shape) > 1}
    return next(
        (d for name, d in {"F32": torch.float32, "F16": torch.float16}.items() if kinds == {name}), torch.bfloat16
    )


def _load(file: Path, dtype: Any) -> tuple[Any, Any]:
    """Return the model and the tokenizer of a file; its folder must hold no other file."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from adapterlab.models.loading import quiet

    settings: dict[str, Any] = {"gguf_file": file.name, "trust_remote_code": False}
    with quiet(), redirect_stderr(StringIO()):  # a bar is drawn that transformers' settings do not silence
        config = AutoConfig.from_pretrained(file.parent, **settings)
        settings["config"] = config  # reading it again takes seconds
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **settings)
        load: Any = AutoModelForCausalLM.from_pretrained
        model, info = load(file.parent, dtype=dtype, output_loading_info=True, **settings)
    wrong = sorted({*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"]), *info["unexpected_keys"]})
    if wrong:
        raise AdapterlabError(f"its tensors are not those of its configuration ({', '.join(wrong[:3])})")
    return model, tokenizer


def _weights(model: Any) -> dict[str, Any]:
    """Return the weights by name; tied ones once, as transformers write them."""
    weights, seen = {}, set()
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            weights[name] = tensor.contiguous()
    return weights


def _save(model: Any, weights: dict[str, Any], tokenizer: Any, folder: Path) -> None:
    """Write weights, configurations and tokenizer, without versions and places."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tokenizer.save_pretrained(folder)
    try:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    except SafetensorError as error:  # a full disk, among others
        raise AdapterlabError(f"cannot write to {folder.parent}: {first_line(error)}") from error
    config = model.config.to_diff_dict() | {"architectures": [type(model).__name__]}
    generation = model.generation_config.to_diff_dict()
    settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    contents = {"config.json": config, "generation_config.json": generation, "tokenizer_config.json": settings}
    for name, content in contents.items():
        kept = {key: value for key, value in content.items() if key not in _VOLATILE and not key.startswith("_")}
        (folder / name).write_text(json.dumps(kept, indent=2, sort_keys=True, default=str) + "\n", "utf-8")


def write_card(folder: Path, rows: dict[str, str]) -> None:
    """Write the card of a model in the cache, with the hash of its files.

    Args:
        folder: The model's folder.
        rows: Facts about the model.
    """
    from adapterlab.models.fingerprint import hash_folder

    known = {**rows, "fingerprint": hash_folder(folder)}
    lines = [f"| {key} | {' '.join(value.replace('|', '/').split())} |" for key, value in known.items()]
    text = "\n".join(["# A language model in the cache of adapterlab", "", "| | |", "|---|---|", *lines, ""])
    (folder / "README.md").write_text(text, "utf-8")
