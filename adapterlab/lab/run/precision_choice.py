"""The precision of a study's trials: given by its file, or chosen once by measurements and kept with its results.

The choice is part of every trial's id. So the first command that prepares a study records it in the folder of its results,
and every later one uses the record, on whatever machine it runs.

>>> print(PrecisionChoice("bf16", "2.1 times faster; losses move by .00002, a tenth of the seed noise is .0004"))
bf16: 2.1 times faster; losses move by .00002, a tenth of the seed noise is .0004
>>> PrecisionChoice.of("auto").decided, PrecisionChoice.of("float32").decided
(False, True)
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adapterlab.errors import AdapterlabError
from adapterlab.files import write_text

AUTO, FLOAT32, BF16 = "auto", "float32", "bf16"
"""Values of `training.precision`."""
FILE = "precision.json"
"""Name of the file in a folder of results."""


@dataclass(frozen=True)
class PrecisionChoice:
    """A precision, and the measurements that it was chosen by."""

    precision: str
    """`float32` or `bf16`; `auto` if it is not decided."""
    reason: str
    """Reason of the choice, with the measured figures."""
    speedup: float | None = None
    """Speed of a product of the model's size in bfloat16, relative to float32; None if not measured."""
    change: float | None = None
    """Change of the validation loss from float32 to `bf16`; None if not measured."""
    noise: float | None = None
    """Standard deviation of the validation loss over seeds; None if not measured."""
    here: str = ""
    """Remark on this machine, if it is slow at the recorded precision; not recorded."""

    @classmethod
    def of(cls, precision: str) -> PrecisionChoice:
        """Return the choice of a study's file; one that is not decided for `auto`.

        Args:
            precision: Value of `training.precision`.
        """
        return cls(precision, "not decided yet" if precision == AUTO else "as the study asks")

    @property
    def decided(self) -> bool:
        """True if trials can run in it."""
        return self.precision != AUTO

    def to_json(self) -> dict[str, Any]:
        """Return precision, reason and figures as plain data."""
        return {key: value for key, value in asdict(self).items() if key != "here"}

    def __str__(self) -> str:
        return f"{self.precision}: {self.reason}"


def read_choice(folder: Path, model_hash: str) -> PrecisionChoice | None:
    """Return the recorded choice, or None if there is none or it was made for another model.

    Args:
        folder: Folder of the results.
        model_hash: Hash of the study's model.

    Raises:
        AdapterlabError: If the record cannot be read.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        known = json.loads(path.read_text("utf-8"))
        if known.pop("model_hash") != model_hash:
            return None
        choice = PrecisionChoice(**known)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise AdapterlabError(
            f"{path} cannot be read as a record of the precision: restore it, or give training.precision in the study"
        ) from error
    if choice.precision not in (FLOAT32, BF16):
        raise AdapterlabError(f"{path} names the precision {choice.precision!r}: restore it as {FLOAT32} or {BF16}")
    return choice


def record_choice(folder: Path, model_hash: str, choice: PrecisionChoice) -> PrecisionChoice:
    """Record a choice, unless another process has recorded one for the same model in the meantime.

    Args:
        folder: Folder of the results; created if it does not exist.
        model_hash: Hash of the study's model.
        choice: The choice.

    Returns:
        The recorded choice, which is the other process's if that was first.

    Raises:
        AdapterlabError: If it cannot be written.
    """
    path = folder / FILE
    text = json.dumps({"model_hash": model_hash, **choice.to_json()}, indent=1) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            write_text(path, text, replace=False)
        except FileExistsError:
            known = read_choice(folder, model_hash)
            if known is not None:
                return known
            write_text(path, text)  # the record is of another model
    except OSError as error:
        raise AdapterlabError(
            f"{path} cannot be written ({error.strerror}): make its folder writable, or give training.precision"
        ) from error
    return choice
