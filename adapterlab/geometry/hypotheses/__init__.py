"""Classes of weight changes that the hypotheses allow, and the nearest member of each to a given change.

>>> list(all_hypotheses())[:3]
['low_rank', 'rotation', 'butterfly']
>>> hypothesis("dora").name
'magnitude_direction'
"""

from __future__ import annotations

from collections.abc import Mapping

from adapterlab.errors import UnknownNameError
from adapterlab.geometry.hypotheses.base import Hypothesis
from adapterlab.geometry.hypotheses.butterfly import Butterfly
from adapterlab.geometry.hypotheses.circulant import Circulant
from adapterlab.geometry.hypotheses.fourier import Fourier
from adapterlab.geometry.hypotheses.gain import Gain
from adapterlab.geometry.hypotheses.givens import Givens
from adapterlab.geometry.hypotheses.hadamard import Hadamard
from adapterlab.geometry.hypotheses.kronecker import Kronecker
from adapterlab.geometry.hypotheses.low_rank import LowRank
from adapterlab.geometry.hypotheses.magnitude_direction import MagnitudeDirection
from adapterlab.geometry.hypotheses.reflections import Reflections
from adapterlab.geometry.hypotheses.rotation import Rotation
from adapterlab.geometry.hypotheses.shards import Shards
from adapterlab.geometry.hypotheses.shared_random import SharedRandom
from adapterlab.geometry.hypotheses.shared_subspace import SharedSubspace
from adapterlab.geometry.hypotheses.singular_basis import SVDBanded, SVDTopK
from adapterlab.geometry.hypotheses.singular_rotation import SVDRotation
from adapterlab.geometry.hypotheses.sparse import Sparse

_ALL: tuple[Hypothesis, ...] = (
    LowRank(),
    Rotation(),
    Butterfly(),
    Givens(),
    Reflections(),
    Gain(),
    MagnitudeDirection(),
    SVDBanded(),
    SVDTopK(),
    SVDRotation(),
    Fourier(),
    Circulant(),
    Kronecker(),
    Hadamard(),
    Sparse(),
    Shards(),
    SharedRandom(),
    SharedSubspace(),
)


def all_hypotheses() -> Mapping[str, Hypothesis]:
    """Return all hypotheses by name."""
    return {each.name: each for each in _ALL}


def hypothesis(name: str) -> Hypothesis:
    """Return a hypothesis.

    Args:
        name: Its name, or that of an adapter that states it, such as `lora`.

    Raises:
        UnknownNameError: There is none of that name.
    """
    for each in _ALL:
        if name == each.name or name in each.adapters:
            return each
    raise UnknownNameError("hypothesis", name, [*all_hypotheses(), *(a for each in _ALL for a in each.adapters)])
