"""Load a model with its tokenizer or image processor: embedded, fetched, of a folder or GGUF file, or from the hub.

>>> model, tokenizer = load_causal()
>>> type(model).__name__, sum(p.numel() for p in model.parameters())
('LlamaForCausalLM', 4262144)
>>> len(tokenizer("import os")["input_ids"])
2
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from adapterlab.errors import AdapterlabError
from adapterlab.models.fingerprint import EMBEDDED, place_of
from adapterlab.surgery.model.new_heads import mark_new_heads


class Head(NamedTuple):
    """Output head of a model."""

    kind: Literal["causal", "sequence", "image"] = "causal"
    """Logits of the next token, of the classes of a text, or of the classes of an image."""
    labels: tuple[str, ...] = ()
    """Names of the classes; empty for a causal model."""


CAUSAL = Head()
"""Head of a language model."""


class Loaded(NamedTuple):
    """A model and its tokenizer."""

    model: nn.Module
    """The model in float32 on the CPU, in evaluation mode."""
    tokenizer: Any
    """The tokenizer; for a model of images, its image processor."""


def load_causal(source: str = EMBEDDED) -> Loaded:
    """Return a language model and its tokenizer.

    Args:
        source: `"embedded"`, a fetched model, a folder, a GGUF file, or an id on the hub, as in `load`.
    """
    return load(source)


def load(source: str = EMBEDDED, head: Head = CAUSAL) -> Loaded:
    """Return a model with a given head, and its tokenizer; reads only safetensors, and runs no code from the source.

    A classifier head that the checkpoint does not have is initialized at random and marked as new, so that it is trained
    together with any adapter.

    Args:
        source: `"embedded"`, a fetched model, a folder, a GGUF file, or an id on the hub.
        head: Output head of the model.

    Raises:
        AdapterlabError: The source is missing or damaged, has only pickled weights, or lacks a language model's weights.
    """
    import transformers
    from transformers import AutoTokenizer

    where, revision = place_of(source)
    local = revision is None
    if local and not any(Path(where).glob("*.safetensors")):
        raise AdapterlabError(
            f"{where} holds no .safetensors weights, and no other format is loaded: save the model with save_pretrained"
        )
    files: dict[str, Any] = {"trust_remote_code": False} | ({} if local else {"revision": revision})
    settings = files | {"dtype": torch.float32, "use_safetensors": True}
    if head.kind != "causal":
        settings |= {
            "num_labels": len(head.labels),
            "id2label": dict(enumerate(head.labels)),
            "label2id": {label: i for i, label in enumerate(head.labels)},
            "ignore_mismatched_sizes": True,
        }
    try:
        with quiet(), torch.random.fork_rng():
            torch.manual_seed(0)
            model, info = getattr(transformers, class_of(where, head, revision)).from_pretrained(
                where, output_loading_info=True, **settings
            )
            if head.kind == "image":
                from transformers import AutoImageProcessor

                processor = AutoImageProcessor.from_pretrained(where, **files)
            else:
                processor = AutoTokenizer.from_pretrained(where, **files)
    except Exception as error:  # transformers raises many types for the same mistakes
        first = str(error).strip().split("\n")[0].rstrip(".")
        hint = "; the files were left as they are" if local else "; there is no folder of that name either"
        raise AdapterlabError(f"cannot load the model {source!r}: {first}{hint}") from error
    missing = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
    if head.kind == "causal" and missing:
        raise AdapterlabError(
            f"cannot load the model {source!r}: it lacks {', '.join(sorted(missing)[:3])}; is it a language model?"
        )
    mark_new_heads(model, missing)
    # Tasks cut long texts themselves; transformers would warn of each process's first.
    getattr(processor, "deprecation_warnings", {})["sequence-length-is-longer-than-the-specified-maximum"] = True
    if head.kind == "sequence" and model.config.get_text_config().pad_token_id is None:
        model.config.get_text_config().pad_token_id = padding(processor)
    return Loaded(model.eval(), processor)


def class_of(where: str, head: Head, revision: str | None = None) -> str:
    """Return the name of the class of transformers that loads a model with a head.

    Args:
        where: A folder, or an id on the hub.
        head: Output head of the model.
        revision: Commit of an id on the hub.
    """
    if head.kind != "causal":
        return _CLASSES[head.kind]
    from transformers import AutoConfig

    settings = {} if revision is None else {"revision": revision}
    config = AutoConfig.from_pretrained(where, trust_remote_code=False, **settings)
    return ENCODER_DECODER if config.is_encoder_decoder else _CLASSES[head.kind]


def padding(tokenizer: Any) -> int:
    """Return the token id to pad with: the tokenizer's padding token, else its end of text, else 0.

    Args:
        tokenizer: A tokenizer of transformers.
    """
    known = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(token for token in known if token is not None)


ENCODER_DECODER = "AutoModelForSeq2SeqLM"
_CLASSES = {
    "causal": "AutoModelForCausalLM",
    "sequence": "AutoModelForSequenceClassification",
    "image": "AutoModelForImageClassification",
}


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the progress bars and warnings of transformers and the hub; the caller reports the errors."""
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
