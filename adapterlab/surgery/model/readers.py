"""Modules that read the weight of a module inside them without calling it, found in the source of their `forward`.

`nn.MultiheadAttention` reads `self.out_proj.weight`, Mamba's mixers `self.dt_proj.weight`, SigLIP's embeddings the
table of positions. An adapter that only replaces the forward of such a module would do nothing.

>>> layer = nn.MultiheadAttention(4, 2)
>>> {path: [reader is layer for reader in found] for path, found in readers_of(layer).items()}
{'out_proj': [True]}
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import cache
from typing import cast

from torch import nn

_TENSORS = {"weight", "bias"}
_ABOUT = {"dtype", "device", "shape", "is_cuda", "requires_grad", "size", "dim", "ndim", "numel", "is_meta"}
"""Attributes and methods of a tensor that do not read its values."""


def readers_of(model: nn.Module) -> Mapping[str, list[nn.Module]]:
    """Return the modules whose weight or bias is read by a module around them, each with its readers, outermost first.

    Args:
        model: A model. Modules whose source cannot be found are taken to read nothing.

    Returns:
        Readers by path of the module that is read.
    """
    found: dict[str, list[nn.Module]] = {}
    for path, module in model.named_modules():
        for chain in _reads(cast(Hashable, type(module))):  # typeshed's cache takes no class
            try:
                module.get_submodule(chain)
            except AttributeError:
                continue
            found.setdefault(f"{path}.{chain}".lstrip("."), []).append(module)
    return found


@cache
def _reads(cls: type[nn.Module]) -> frozenset[str]:
    """Return the relative paths of the modules whose tensors `forward`, or a method that it calls, reads."""
    reads: set[str] = set()
    pending, seen = [("forward", 0)], set[tuple[str, int]]()
    while pending:
        name, depth = pending.pop()
        if (name, depth) in seen:
            continue
        seen.add((name, depth))
        for function in _definitions(cls, name)[depth : depth + 1]:
            tree = _parsed(function)
            reads |= set(_chains(tree))
            for node in ast.walk(tree):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
                    pending.append((node.attr, 0))
                if isinstance(node, ast.Name) and node.id == "super":
                    pending.append((name, depth + 1))
    return frozenset(reads)


def _definitions(cls: type[nn.Module], name: str) -> list[Callable[..., object]]:
    """Return the definitions of a method, the most derived first, without those of `nn.Module`."""
    own = cls.__mro__[: cls.__mro__.index(nn.Module)]
    functions = [vars(base)[name] for base in own if name in vars(base)]
    return [inspect.unwrap(function) for function in functions if inspect.isfunction(function)]


@cache
def _parsed(function: Callable[..., object]) -> ast.Module:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return ast.Module([], [])


def _chains(tree: ast.Module) -> Iterator[str]:
    """Yield the path from `self` of each module whose tensor is read: `layer.out` for `self.layer.out.weight`."""
    about = {id(part) for node in ast.walk(tree) for part in _not_read(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in _TENSORS and id(node) not in about:
            names: list[str] = []
            value = node.value
            while isinstance(value, ast.Attribute):
                names.insert(0, value.attr)
                value = value.value
            if names and isinstance(value, ast.Name) and value.id == "self":
                yield ".".join(names)


def _not_read(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the tensors whose values a node does not read: it asks for dtype, shape or class, or replaces them."""
    if isinstance(node, ast.Attribute) and node.attr in _ABOUT:
        yield node.value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "hasattr"):
        yield from node.args
    elif isinstance(node, ast.Assign):
        yield from node.targets
    elif isinstance(node, ast.Compare) and all(isinstance(op, ast.Is | ast.IsNot) for op in node.ops):
        yield from (node.left, *node.comparators)
