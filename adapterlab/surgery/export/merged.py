"""A model folder with every attached adapter merged into the weights, as transformers itself would write it.

>>> from tempfile import TemporaryDirectory
>>> from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
>>> from adapterlab import adapter, attach
>>> shape = {"vocab_size": 32, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1}
>>> handle = attach(LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=2)), adapter("lora", rank=2))
>>> with TemporaryDirectory() as folder:
...     save_merged(handle.model, folder)
...     type(AutoModelForCausalLM.from_pretrained(folder))
<class 'transformers.models.llama.modeling_llama.LlamaForCausalLM'>
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from adapterlab.errors import AdapterlabError
from adapterlab.surgery.model.linear_layers import linears
from adapterlab.surgery.model.submodules import in_adapter
from adapterlab.surgery.model.weights import quantized
from adapterlab.surgery.sites.base import Site
from adapterlab.surgery.sites.pair import PairHalf
from adapterlab.surgery.sites.parameter import ParameterSite


def save_merged(model: nn.Module, folder: str | Path, tokenizer: Any = None) -> None:
    """Write a model with every adapter that is attached to it merged into its weights.

    Args:
        model: The model; it is left as it was, with its adapters merged or not as before.
        folder: Folder to write to; created if it does not exist.
        tokenizer: Tokenizer or processor to write into the same folder, or None.

    Raises:
        AdapterlabError: The model is not one of transformers or is quantized, an attached adapter does not change weights,
            or `folder` is a file. Nothing is written then.
    """
    folder = Path(folder)
    if not isinstance(model, PreTrainedModel):
        kind = type(model).__name__
        raise AdapterlabError(
            f"{kind} is not a transformers model: merge() the adapter and save the state dict instead"
        )
    if folder.is_file():
        raise AdapterlabError(f"{folder} is a file: give the path of a folder")
    _refuse_quantized(model)
    with all_merged(model):
        plain = {name: tensor for name, tensor in model.state_dict().items() if not in_adapter(name)}
        # The class's, since `attach` replaces the model's by one that writes the adapter alone.
        type(model).save_pretrained(model, folder, state_dict=plain)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


@contextmanager
def all_merged(model: nn.Module) -> Iterator[None]:
    """Yield with every active adapter of a model merged; afterwards those that were not merged before are unmerged.

    Adapters on single parameters come first, since an adapter of a linear layer reads the parameter that they adapt.

    Args:
        model: The model.

    Raises:
        AdapterlabError: An attached adapter does not change weights. The model is unchanged.
    """
    waiting = [module for module in model.modules() if isinstance(module, Site) and module.active]
    for site in waiting:
        method: Any = site.adapter
        if not method.mergeable:
            raise AdapterlabError(
                f"{method.name} does not change weights, so it cannot be merged into them: save the adapter with save(), "
                "and load it with adapterlab.load"
            )
    waiting.sort(key=lambda site: not isinstance(site, ParameterSite))
    done: list[Site] = []
    try:
        while waiting:
            ready = next(site for site in waiting if not any(map(changes_weight, site.neighbours("below"))))
            ready.merge()
            waiting.remove(ready)
            done.append(ready)
        yield
    finally:
        for site in reversed(done):
            site.unmerge()


def changes_weight(entry: nn.Module) -> bool:
    """Return True if an entry of a stack changes the weight now and is not merged.

    Args:
        entry: A neighbour of a site.
    """
    site = entry.site if isinstance(entry, PairHalf) else entry
    return isinstance(site, Site) and site.active


def _refuse_quantized(model: nn.Module) -> None:
    for path, layer in linears(model).items():
        if quantized(layer):
            kind = type(layer).__name__
            raise AdapterlabError(
                f"{path} is a {kind} with quantized weights, into which nothing can be merged: load the model unquantized "
                "and the adapter with adapterlab.load, then save_merged"
            )
    if getattr(model, "hf_quantizer", None) is not None:
        raise AdapterlabError("the model is quantized: load it unquantized and the adapter on it, then save_merged")
