"""Load a model with its tokenizer or image processor: the embedded one, a folder, or an id of the hub."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from adapterlab.errors import AdapterlabError
from adapterlab.surgery.model.new_heads import mark_fresh

EMBEDDED = "embedded"


class Head(NamedTuple):
    """What stands at the end of a model: the next token's logits, or those of `labels`."""

    kind: Literal["causal", "sequence", "image"] = "causal"
    labels: tuple[str, ...] = ()


CAUSAL = Head()


class Loaded(NamedTuple):
    """A model in float32 on the CPU, in evaluation mode, and what makes its inputs."""

    model: nn.Module
    tokenizer: Any
    """The image processor, of a model that looks at images."""


def folder_of(source: str) -> Path:
    """The folder that `source` names; the package's own for `"embedded"`."""
    return Path(__file__).parent / "base" if source == EMBEDDED else Path(source)


def load_causal(source: str = EMBEDDED) -> Loaded:
    """The language model and tokenizer that `source` names: see `load`."""
    return load(source)


def load(source: str = EMBEDDED, head: Head = CAUSAL) -> Loaded:
    """The model that `source` names with this head; from safetensors only, and no code that comes with the weights.

    A classifier's head that the checkpoint lacks is drawn at random and marked as fresh, so that it is trained along.
    Raises `AdapterlabError` where the folder is missing, damaged, holds only pickled weights, or lacks a language
    model's weights.
    """
    import transformers
    from transformers import AutoTokenizer

    folder = folder_of(source)
    local = folder.exists()
    if local and not any(folder.glob("*.safetensors")):
        raise AdapterlabError(
            f"{folder} holds no .safetensors weights, and no other kind is loaded: save the model anew"
        )
    if not local and (source.startswith((".", "/", "~")) or source.count("/") > 1):
        raise AdapterlabError(f"there is no folder {source}: give one that holds a model, or an id of the hub")
    where = str(folder) if local else source
    settings: dict[str, Any] = {"dtype": torch.float32, "use_safetensors": True, "trust_remote_code": False}
    if head.kind != "causal":
        settings |= {
            "num_labels": len(head.labels),
            "id2label": dict(enumerate(head.labels)),
            "label2id": {label: i for i, label in enumerate(head.labels)},
            "ignore_mismatched_sizes": True,
        }
    try:
        with _quiet(), torch.random.fork_rng():
            torch.manual_seed(0)
            model, info = getattr(transformers, _CLASSES[head.kind]).from_pretrained(
                where, output_loading_info=True, **settings
            )
            if head.kind == "image":
                from transformers import AutoImageProcessor

                processor = AutoImageProcessor.from_pretrained(where, trust_remote_code=False)
            else:
                processor = AutoTokenizer.from_pretrained(where, trust_remote_code=False)
    except Exception as error:  # transformers raises many kinds for the same mistakes
        first = str(error).strip().split("\n")[0].rstrip(".")
        kept = "; the files were left as they are" if local else "; there is no folder of that name either"
        raise AdapterlabError(f"cannot load the model {source!r}: {first}{kept}") from error
    missing = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
    if head.kind == "causal" and missing:
        raise AdapterlabError(
            f"cannot load the model {source!r}: it lacks {', '.join(sorted(missing)[:3])}; is it a language model?"
        )
    mark_fresh(model, missing)
    if head.kind == "sequence" and model.config.get_text_config().pad_token_id is None:
        model.config.get_text_config().pad_token_id = padding(processor)
    return Loaded(model.eval(), processor)


def padding(tokenizer: Any) -> int:
    """The id that fills a row: the tokenizer's own for it, or its end of text, or 0."""
    known = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(token for token in known if token is not None)


_CLASSES = {
    "causal": "AutoModelForCausalLM",
    "sequence": "AutoModelForSequenceClassification",
    "image": "AutoModelForImageClassification",
}


@contextmanager
def _quiet() -> Iterator[None]:
    """Within it transformers and the hub say nothing of what they load, or try to: that is said here."""
    from huggingface_hub.utils import logging as hub
    from transformers.utils import logging

    before, before_hub = logging.get_verbosity(), hub.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    hub.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        hub.set_verbosity(before_hub)


@cache
def fingerprint(source: str = EMBEDDED) -> str:
    """A hash of the weights: the id itself for a model that is not a local folder."""
    folder = folder_of(source)
    if not folder.exists():
        return source
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted([*folder.glob("*.safetensors"), folder / "config.json", folder / "tokenizer.json"]):
        if file.exists():
            digest.update(file.name.encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()
