"""Checks of the `[geometry]` table that need the registries of adapters, hypotheses and measures.

>>> from adapterlab.lab.study.spec import Study
>>> study = Study(name="mine", tasks=("prose",), budget=1000, contestants=({"adapter": "lora"},), geometry={"of": ("oft",)})
>>> check_geometry(study)
Traceback (most recent call last):
adapterlab.lab.study.check_geometry.GeometryError: geometry.of names 'oft', which is no contestant of the study: give lora
or full_ft
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from adapterlab.errors import AdapterlabError

if TYPE_CHECKING:
    from collections.abc import Collection

    from adapterlab.lab.study.spec import Study


class GeometryError(AdapterlabError):
    """A mistake in the `[geometry]` table.

    Args:
        key: Key of the table.
        message: The mistake, and how to fix it.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"geometry.{key} {message}")
        self.key = key


def check_geometry(study: Study) -> None:
    """Check that the contestants, hypotheses and measures of a study's `[geometry]` exist and can be measured.

    Args:
        study: The study; nothing is checked if it measures no geometry.

    Raises:
        GeometryError: A name is not known, or a contestant changes no weight of a linear layer.
    """
    if study.geometry is None:
        return
    from adapterlab.geometry.hypotheses import all_hypotheses  # these take a while to load, and most studies need none
    from adapterlab.geometry.in_model import changes_linear_weights
    from adapterlab.geometry.measures import measure_named
    from adapterlab.lab.study.geometry import DIRECTION

    by_name = {entry.name: entry for entry in study.entrants}
    for name in study.geometry.of:
        if name not in by_name:
            known = " or ".join(by_name)
            raise GeometryError("of", f"names {name!r}, which is no contestant of the study: give {known}")
        if not changes_linear_weights(by_name[name].build()):
            raise GeometryError(
                "of", f"names {name!r}, which changes no weight of a linear layer and so has no geometry: leave it out"
            )
    _check("hypotheses", study.geometry.hypotheses, list(all_hypotheses()))
    for name in study.geometry.measures:
        try:
            if name != DIRECTION:
                measure_named(name)
        except AdapterlabError as error:
            raise GeometryError("measures", f"names a measure that does not exist: {error}") from error


def _check(key: str, names: Collection[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, 3)
            raise GeometryError(key, f"names {name!r}, which does not exist: give {' or '.join(near or known)}")
