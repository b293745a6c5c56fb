"""Modules that are trained fully beside an adapter: heads of classifiers by default, others by name.

>>> model = nn.ModuleDict({"body": nn.Linear(4, 4), "score": nn.Linear(4, 2, bias=False)})
>>> list(trained_parameters(model, ["score"]))
['score.weight']
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn
from transformers import PreTrainedModel

from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.surgery.model.new_heads import new_head_parameters
from adapterlab.surgery.model.submodules import in_adapter


def head_modules(model: nn.Module) -> list[str]:
    """Return the paths of a model's task heads: its own modules with parameters outside the base model.

    Such as `classifier`, `score` or `qa_outputs`. A language model has none: its head makes the logits of tokens.

    Args:
        model: A model.
    """
    if not isinstance(model, PreTrainedModel) or model.get_output_embeddings() is not None:
        return []
    base = model.base_model
    children = [] if base is model else list(model.named_children())
    return [name for name, child in children if child is not base and any(True for _ in child.parameters())]


def may_be_new(model: nn.Module, path: str) -> bool:
    """Return True if a parameter can be a new head: it is marked as one, or belongs to a task head, a pooler or the output.

    Args:
        model: The model.
        path: Path of the parameter.
    """
    if path in new_head_parameters(model):
        return True
    owner = path.rpartition(".")[0]
    own, output = f"{owner}.", getattr(model, "get_output_embeddings", lambda: None)()
    if output is not None and owner and model.get_submodule(owner) is output:
        parameters = dict(model.named_parameters(remove_duplicate=False))
        return sum(parameter is parameters[path] for parameter in parameters.values()) == 1
    return any(own.startswith(f"{head}.") for head in head_modules(model)) or "pooler" in own.split(".")


def trained_parameters(model: nn.Module, names: str | Sequence[str] | None) -> dict[str, nn.Parameter]:
    """Return the parameters by path of the modules to train, without new heads, which are trained anyway.

    Args:
        model: The model.
        names: Paths of modules or endings of paths; None for the task heads.

    Raises:
        UnknownNameError: No module has such a name.
        AdapterlabError: A module is quantized, or tied to another.
    """
    names = head_modules(model) if names is None else [names] if isinstance(names, str) else names
    modules = [path for path, _ in model.named_modules() if path and not in_adapter(path)]
    paths: list[str] = []
    for name in names:
        hits = [path for path in modules if f".{path}".endswith(f".{name}")]
        if not hits:
            raise UnknownNameError("module", name, {path.rpartition(".")[2] for path in modules}, where="trained_too")
        paths += hits
    chosen = {
        f"{path}.{name}": parameter
        for path in paths
        for name, parameter in model.get_submodule(path).named_parameters()
        if not in_adapter(f"{path}.{name}")
    }
    _refuse_tied(model, chosen)
    for path, parameter in chosen.items():
        if not parameter.is_floating_point() or parameter.itemsize < 2:
            raise AdapterlabError(f"trained_too: {path} holds quantized numbers, which cannot be trained: leave it out")
    new = {id(parameter) for parameter in new_head_parameters(model).values()}
    return {path: parameter for path, parameter in chosen.items() if id(parameter) not in new}


def outside(paths: Sequence[str], trained: Mapping[str, nn.Parameter]) -> list[str]:
    """Return those paths of layers and parameters that are not trained as a whole.

    Args:
        paths: Paths of the sites that an adapter would have.
        trained: Parameters that are trained beside it, by path.
    """
    return [path for path in paths if path not in trained and f"{path}.weight" not in trained]


def _refuse_tied(model: nn.Module, chosen: Mapping[str, nn.Parameter]) -> None:
    own = {id(parameter): path for path, parameter in chosen.items()}
    for path, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in own and path not in chosen and not in_adapter(path):
            raise AdapterlabError(
                f"trained_too: {own[id(parameter)]} is the same parameter as {path} (tied), so both would change: load the "
                "model with tie_word_embeddings=False, or adapt rows of it with trainable_tokens"
            )
