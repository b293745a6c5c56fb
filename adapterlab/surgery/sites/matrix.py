"""Weights that no linear layer computes with: token embeddings, convolutions, and the fused experts of a mixture.

A `LinearAdapter` is applied to them through its `weight`: an embedding is a matrix `(tokens, width)`, a convolution
`(out, in * kernel)`, as in LyCORIS, and each expert has a state of its own. They are adapted only if a target names them.

>>> from adapterlab.adapters import adapter
>>> model = nn.ModuleDict({"words": nn.Embedding(8, 4), "conv": nn.Conv1d(4, 6, 3)})
>>> {path: place.shape for path, place in matrix_places(model, adapter("lora", rank=2)).items()}
{'words.weight': (8, 4), 'conv.weight': (6, 12)}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adapterlab.adapters.context import Context
from adapterlab.adapters.linear import LinearAdapter
from adapterlab.adapters.state import State
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.model.submodules import in_adapter
from adapterlab.surgery.sites.parameter import Owner, ParameterMethod, ParameterPlace


@dataclass(frozen=True)
class OfMatrix:
    """A `LinearAdapter` as the method of a parameter that is a matrix once its last dimensions are flattened."""

    method: LinearAdapter
    """The method."""

    def init(self, parameter: Tensor, context: Context) -> State:
        """Return the state before training.

        Args:
            parameter: Base parameter, `(out, ...)`.
            context: Everything else that the state may depend on.
        """
        return self.method.init(parameter.flatten(1), context)

    def value(self, state: State, parameter: Tensor, strength: float = 1.0) -> Tensor:
        """Return the adapted parameter, shaped like `parameter`.

        Args:
            state: State of the site.
            parameter: Base parameter, `(out, ...)`.
            strength: 0 for the base parameter, 1 for the trained adapter.
        """
        return self.method.weight(state, parameter.flatten(1), strength).view_as(parameter)

    def regularizer(self, state: State) -> Tensor | None:
        """Return the method's penalty.

        Args:
            state: State of the site.
        """
        return self.method.regularizer(state)


@dataclass(frozen=True)
class OfExperts:
    """A `LinearAdapter` as the method of a parameter that holds one matrix for each expert."""

    method: LinearAdapter
    """The method."""
    transposed: bool
    """True if the matrices are stored as `(in, out)`."""

    def init(self, parameter: Tensor, context: Context) -> State:
        """Return the state before training, the experts' tensors stacked.

        Args:
            parameter: Base parameter, `(experts, out, in)`, or `(experts, in, out)` if transposed.
            context: Everything else that the state may depend on.

        Raises:
            AdapterlabError: The method trains tensors that all its sites share.
        """
        states = [self.method.init(matrix, context) for matrix in self._matrices(parameter)]
        if len(states) > 1 and any(t is states[1].trainable[name] for name, t in states[0].trainable.items()):
            raise AdapterlabError(f"{self.method.name} trains tensors that its sites share: it cannot adapt experts")
        groups = [(state.trainable, state.frozen, state.derived) for state in states]
        stacked = [{name: torch.stack([p[name] for p in parts]) for name in parts[0]} for parts in zip(*groups)]  # noqa: B905
        return State(*stacked)

    def value(self, state: State, parameter: Tensor, strength: float = 1.0) -> Tensor:
        """Return the adapted parameter, shaped like `parameter`.

        Args:
            state: State of the site.
            parameter: Base parameter, as in `init`.
            strength: 0 for the base parameter, 1 for the trained adapter.
        """
        matrices = self._matrices(parameter)
        adapted = [self.method.weight(_of_expert(state, i), matrix, strength) for i, matrix in enumerate(matrices)]
        stacked = torch.stack(adapted)
        return stacked.mT if self.transposed else stacked

    def regularizer(self, state: State) -> Tensor | None:
        """Return the mean of the method's penalty over the experts.

        Args:
            state: State of the site.
        """
        terms = [self.method.regularizer(_of_expert(state, i)) for i in range(_experts(state))]
        found = [term for term in terms if term is not None]
        return torch.stack(found).mean() if found else None

    def states(self, state: State) -> Sequence[State]:
        """Return the state of each expert, which shares memory and gradients with the stacked one.

        Args:
            state: State of the site.
        """
        states = [_of_expert(state, i, Tensor.detach) for i in range(_experts(state))]
        for i, own in enumerate(states):
            for name, tensor in own.trainable.items():
                whole = state.trainable[name].grad
                tensor.grad = None if whole is None else whole[i]
        return states

    def _matrices(self, parameter: Tensor) -> Sequence[Tensor]:
        return (parameter.mT if self.transposed else parameter).unbind()


def _experts(state: State) -> int:
    return len(next(iter(state.trainable.values())))


def _of_expert(state: State, expert: int, taken: Callable[[Tensor], Tensor] = lambda tensor: tensor) -> State:
    parts = (state.trainable, state.frozen, state.derived)
    return State(*({name: taken(tensor[expert]) for name, tensor in part.items()} for part in parts))


class MatrixPlace(ParameterPlace):
    """A parameter, for a method that adapts matrices.

    Args:
        adapter: The method.
        owners: The modules that hold the parameter, by path; several if it is tied.
        experts: True if the parameter holds one matrix for each expert.
        readers: Modules that read the parameter of an owner without calling it.
    """

    adapter: LinearAdapter

    def __init__(
        self, adapter: LinearAdapter, owners: Mapping[str, Owner], experts: bool, readers: Sequence[nn.Module] = ()
    ) -> None:
        self.adapter, self.experts = adapter, experts
        self.module_paths = list(owners)
        self.owners, self.readers = list(owners.values()), readers

    @property
    def transposed(self) -> bool:
        """True if the matrices are stored as `(in, out)`."""
        return self.experts and bool(getattr(self.owners[0][0], "is_transposed", False))

    @property
    def functions(self) -> ParameterMethod:
        return OfExperts(self.adapter, self.transposed) if self.experts else OfMatrix(self.adapter)

    @property
    def shape(self) -> tuple[int, int]:
        if not self.experts:
            rows, *rest = self.like.shape
            return rows, torch.Size(rest).numel()
        rows, columns = self.like.shape[1:]
        return (columns, rows) if self.transposed else (rows, columns)

    def init(self, context: Context) -> State:
        path = context.site
        if getattr(self.adapter, "dropout", 0.0):
            raise AdapterlabError(f"{path}: dropout needs the input of a linear layer: set dropout to 0")
        return super().init(context)


def matrix_places(
    model: nn.Module, adapter: LinearAdapter, readers: Mapping[str, Sequence[nn.Module]] | None = None
) -> dict[str, MatrixPlace]:
    """Return the matrices of a model outside its linear layers by the path of the parameter.

    Args:
        model: The model; adapters that are already attached are skipped.
        adapter: The method.
        readers: Modules that read a module's weight without calling it, by path.
    """
    owners: dict[nn.Parameter, list[tuple[str, Owner]]] = {}
    for path, module in model.named_modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and not in_adapter(path):
                owners.setdefault(parameter, []).append((path, (module, name)))
    places = {}
    for parameter, found in owners.items():
        modules = [module for _, (module, _) in found]
        convolution = any(isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d) for m in modules)
        experts = parameter.ndim == 3 and not convolution
        if experts or (parameter.ndim > 1 and (convolution or any(isinstance(m, nn.Embedding) for m in modules))):
            path, (_, name) = found[0]
            reading = [reader for path, _ in found for reader in (readers or {}).get(path, ())]
            places[f"{path}.{name}".lstrip(".")] = MatrixPlace(adapter, dict(found), experts, reading)
    return places
