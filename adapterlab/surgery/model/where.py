"""A choice of the places of a model that are adapted, by their paths, with settings of their own.

>>> where = Where(["q_proj", "down"], exclude="model.layers.0.*", layers=[0, 2])
>>> paths = [f"model.layers.{i}.{name}" for i in range(3) for name in ("self_attn.q_proj", "mlp.down_proj")]
>>> [path for path in paths if where.chooses(path)]
['model.layers.2.self_attn.q_proj', 'model.layers.2.mlp.down_proj']
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from adapterlab.adapters.context import Role
from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.surgery.model.roles import ATTENTION, MLP, group_of, role_of

Targets: TypeAlias = str | Sequence[str]
"""Places to adapt: `"all-linear"`, or one or more groups (`"attention"`, `"mlp"`), roles, endings of a path, or patterns."""
ALL = "all-linear"
"""Every linear layer except output heads; every place of a method that adapts something else."""


@dataclass(frozen=True)
class Where:
    """A choice among the places that a method can adapt."""

    targets: Targets = ALL
    """Places to adapt. Each is a group (`"attention"`, `"mlp"`), a role (`"query"`, `"down"`), an ending of a path
    (`"q_proj"`, `"layers.0.mlp.up_proj"`), or a pattern (`"model.layers.0.*"`)."""
    exclude: Targets = ()
    """Places to leave out, named in the same way."""
    layers: Sequence[int] | None = None
    """Numbers of the blocks to adapt, negative ones counted from the end; None for all."""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Hyperparameters that differ at some places, by target: `{"down": {"rank": 16, "alpha": 32.0}}`. The last that
    matches a place holds."""

    def chooses(self, path: str, *others: str, blocks: int | None = None) -> bool:
        """Return True if a place is adapted.

        Args:
            path: Path of the place.
            *others: Further paths by which the place may be named.
            blocks: Number of blocks, for negative `layers`.
        """
        paths = (path, *others)
        if any(_named(target, paths) for target in _listed(self.exclude)):
            return False
        if self.layers is not None:
            block = block_of(path)
            if block is None or block not in {i % blocks if blocks and i < 0 else i for i in self.layers}:
                return False
        return self.targets == ALL or any(_named(target, paths) for target in _listed(self.targets))

    def choose(self, model: str, places: Mapping[str, Sequence[str]]) -> list[str]:
        """Return the places that are adapted.

        Args:
            model: Name of the model's class, for error messages.
            places: Every place that the method can adapt by path, each with further names.

        Returns:
            The chosen paths in order.

        Raises:
            UnknownNameError: A target, an excluded name, or a target of `settings` matches no place.
            AdapterlabError: No block has one of the numbers in `layers`, or nothing is left.
        """
        named = [*_listed(() if self.targets == ALL else self.targets), *_listed(self.exclude), *self.settings]
        for target in named:
            if not any(_named(target, (path, *names)) for path, names in places.items()):
                paths = [name for path, names in places.items() for name in (path, *names)]
                known = {path.rsplit(".", 1)[-1] for path in paths} | {role_of(path).value for path in paths}
                raise UnknownNameError("target", target, known - {Role.OTHER.value, ""}, where=model)
        numbers = {block for path in places if (block := block_of(path)) is not None}
        blocks = max(numbers, default=-1) + 1
        for layer in self.layers or ():
            if not -blocks <= layer < blocks:
                raise AdapterlabError(f"layers: {model} has the blocks 0 to {blocks - 1}, and no block {layer}")
        chosen = [path for path, names in places.items() if self.chooses(path, *names, blocks=blocks)]
        if places and not chosen:
            raise AdapterlabError(f"{self} leaves nothing of {model} to adapt")
        return chosen

    def settings_at(self, path: str, *others: str) -> dict[str, Any]:
        """Return the hyperparameters that differ at a place.

        Args:
            path: Path of the place.
            *others: Further paths by which the place may be named.
        """
        found: dict[str, Any] = {}
        for target, settings in self.settings.items():
            if _named(target, (path, *others)):
                found |= settings
        return found

    def as_data(self) -> dict[str, Any]:
        """Return the choice as plain data, without what is at its default."""
        data = {
            "targets": self.targets if isinstance(self.targets, str) else list(self.targets),
            "exclude": list(_listed(self.exclude)),
            "layers": None if self.layers is None else list(self.layers),
            "settings": {target: dict(settings) for target, settings in self.settings.items()},
        }
        return {key: value for key, value in data.items() if key == "targets" or value not in ([], None, {})}

    def __str__(self) -> str:
        return ", ".join(f"{key} = {value!r}" for key, value in self.as_data().items())


def block_of(path: str) -> int | None:
    """Return the number of the block that a path lies in, or None: the first number in the path.

    Args:
        path: Dotted path of a module or parameter.

    >>> block_of("model.layers.3.mlp.experts.0.up_proj"), block_of("lm_head")
    (3, None)
    """
    return next((int(part) for part in path.split(".") if part.isdigit()), None)


def _listed(targets: Targets) -> Iterable[str]:
    return [targets] if isinstance(targets, str) else targets


def _named(target: str, paths: Iterable[str]) -> bool:
    return any(
        role_of(path) == target
        or (target in (ATTENTION, MLP) and group_of(path) == target)
        or f".{path}".endswith(f".{target}")
        or fnmatch.fnmatchcase(path, target)
        for path in paths
    )
