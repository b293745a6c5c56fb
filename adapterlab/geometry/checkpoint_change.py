"""The change between two checkpoints, read layer by layer.

>>> from pathlib import Path
>>> from tempfile import mkdtemp
>>> from safetensors.torch import save_file
>>> before, after = Path(mkdtemp()), Path(mkdtemp())
>>> _ = save_file({"up.weight": torch.zeros(2, 3)}, before / "model.safetensors")
>>> _ = save_file({"up.weight": torch.ones(2, 3)}, after / "model.safetensors")
>>> change = CheckpointChange(Checkpoint(before, "before"), Checkpoint(after, "after"))
>>> change.shapes, round(change.read("up").norm, 4)
({'up': (2, 3)}, 2.4495)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch

from adapterlab.errors import AdapterlabError
from adapterlab.geometry.change import Change, OtherChange, WeightChange
from adapterlab.geometry.checkpoint import Checkpoint
from adapterlab.geometry.structure import Structure, structure_of


class CheckpointChange(Change):
    """The change of a model's weights from one checkpoint to another. No more than one layer is in memory at a time.

    Args:
        base: The checkpoint before.
        tuned: The checkpoint after.

    Raises:
        AdapterlabError: The checkpoints are of different models: another architecture, missing tensors or other shapes, or
            the output head is tied to the embeddings in one of them alone.
    """

    def __init__(self, base: Checkpoint, tuned: Checkpoint) -> None:
        self._base, self._tuned = base, tuned
        self.base_name, self.tuned_name = base.name, tuned.name
        first, second = base.config.get("model_type"), tuned.config.get("model_type")
        if first and second and first != second:
            raise AdapterlabError(
                f"{tuned.name} is a {second} model and {base.name} a {first} model: give the model that it was trained "
                "from as the base"
            )
        self._of_base, self._of_tuned = structure_of(base), structure_of(tuned)
        self._check_ties()
        self._check_parameters()
        self.notes = tuple(dict.fromkeys(each.note for each in (self._of_base, self._of_tuned) if each.note))

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, int]]:
        found = {}
        for path, key in self._of_base.layers.items():
            rows, columns = self._base.shapes[key]
            found[path] = (columns, rows) if path in self._of_base.transposed else (rows, columns)
        return found

    def read(self, path: str) -> WeightChange:
        base, tuned = self._base.read(self._of_base.layers[path]), self._tuned.read(self._of_tuned.layers[path])
        dtype = torch.promote_types(base.dtype, tuned.dtype)
        base, tuned = base.to(dtype), tuned.to(dtype)
        if path in self._of_base.transposed:
            base, tuned = base.T.contiguous(), tuned.T.contiguous()
        return WeightChange(path, base, tuned)

    @cached_property
    def others(self) -> Sequence[OtherChange]:
        """Changed parameters that are not weights of linear layers, read some rows at a time.

        Of token embeddings whose number differs, the rows that both models have are compared.
        """
        found = []
        for path, (key, tuned_key) in self._other_keys.items():
            moved, size = 0.0, 0.0
            for before, after in zip(self._base.chunks(key), self._tuned.chunks(tuned_key), strict=False):
                rows = min(len(before), len(after)) if before.ndim else 1
                before, after = (part[:rows].double() if part.ndim else part.double() for part in (before, after))
                moved += float(((after - before) ** 2).sum())
                size += float((before**2).sum())
            if moved:
                found.append(OtherChange(path, math.sqrt(moved), math.sqrt(moved / size) if size else math.inf))
        return tuple(found)

    @cached_property
    def _other_keys(self) -> Mapping[str, tuple[str, str]]:
        """Names in both checkpoints of the parameters that are not weights of linear layers, by path."""
        layers = set(self._of_base.layers.values())
        named = {key: path for path, key in reversed([*self._of_base.keys.items()]) if key not in layers}
        of_tuned = self._of_tuned.keys
        known = {path: (key, of_tuned[path]) for key, path in named.items() if path in of_tuned}
        return dict(reversed(known.items()))

    def _check_ties(self) -> None:
        sides = ((self._base, self._of_base), (self._tuned, self._of_tuned))
        ties = [_ties(checkpoint, structure) for checkpoint, structure in sides]
        if ties[0] != ties[1]:
            tied, free = (self._base, self._tuned) if ties[0] else (self._tuned, self._base)
            raise AdapterlabError(
                f"{tied.name} ties its output head to its embeddings, and {free.name} has a head of its own: save both "
                "with the same tie_word_embeddings"
            )

    def _check_parameters(self) -> None:
        """Raise an error that names the first tensor that the checkpoints do not have in common."""
        sides = ((self._base, self._of_base), (self._tuned, self._of_tuned))
        for checkpoint, structure in sides:
            if structure.missing:
                raise AdapterlabError(
                    f"{checkpoint.name} lacks {min(structure.missing)}, which its model has: fetch or save the model again"
                )
        for (one, first), (other, second) in (sides, sides[::-1]):
            if lacking := [
                path for path in (*first.layers, *first.keys) if path not in {**second.layers, **second.keys}
            ]:
                raise self._another(f"{one.name} has {lacking[0]}, and {other.name} does not")
        if not self._of_base.layers:
            raise AdapterlabError(f"{self._base.name} has no linear layer, so its change has no geometry")
        keys = {path: (key, self._of_tuned.layers[path]) for path, key in self._of_base.layers.items()}
        for path, (key, tuned_key) in (keys | dict(self._other_keys)).items():
            before, after = self._base.shapes[key], self._tuned.shapes[tuned_key]
            if key in self._of_base.resizable and before[1:] == after[1:]:
                continue
            if before != after:
                raise self._another(
                    f"{path} is {list(before)} in {self._base.name} and {list(after)} in {self._tuned.name}"
                )
        for path, pair in keys.items():
            for checkpoint, key in zip((self._base, self._tuned), pair, strict=True):
                if not checkpoint.is_number(key):
                    checkpoint.read(key)  # raises the error that names it
                if len(checkpoint.shapes[key]) != 2:
                    raise AdapterlabError(f"{path} is no matrix in {checkpoint.name}: save the model unquantized")

    def _another(self, difference: str) -> AdapterlabError:
        return AdapterlabError(
            f"{self._base.name} is not the base of {self._tuned.name}: {difference}; give the model that it was trained from"
        )


def _ties(checkpoint: Checkpoint, structure: Structure) -> bool | None:
    """Return True if the output head is the token embeddings, False if it is another matrix, None if there is no head."""
    if not structure.head:
        return None
    if not structure.tied or structure.head == structure.embedding:
        return structure.tied
    # Stored although the model ties it: some libraries write it twice, others have trained it apart.
    pairs = zip(checkpoint.chunks(structure.head), checkpoint.chunks(structure.embedding), strict=True)
    return all(torch.equal(first, second) for first, second in pairs)
