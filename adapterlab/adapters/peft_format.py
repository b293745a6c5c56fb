"""The part of a method that reads and writes the format of the library PEFT; without an override there is no such format.

>>> from adapterlab.adapters import adapter
>>> adapter("lora").peft_kinds, adapter("reft").peft_kinds
(('LORA',), ())
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from adapterlab.adapters.peft_layout import PeftLayout, PeftSite
from adapterlab.adapters.peft_source import PeftSource, PeftStored


class PeftFormat:
    """Base class of every method, with the functions that a method overrides if PEFT has it too."""

    peft_kinds: ClassVar[tuple[str, ...]] = ()
    """PEFT's names of the methods that `from_peft` reads."""
    peft_names: ClassVar[Mapping[str, str]] = {}
    """Names of the state's tensors by PEFT's names, if the tensors are the same in both."""
    peft_transposable: ClassVar[bool] = False
    """True if PEFT's method also works on layers that store their weight as `(in, out)` (GPT-2's `Conv1D`)."""

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout | None:
        """Return the adapter in the names and shapes of the library PEFT, or None if PEFT has no such method.

        Args:
            sites: Sites of the adapter, with their states.

        Raises:
            CannotExportError: If PEFT has the method, but not with these hyperparameters or at these sites.
        """
        return None

    @classmethod
    def from_peft(cls, source: PeftSource) -> PeftFormat | None:
        """Return the method with the hyperparameters of a PEFT adapter, or None if it is a variant of another method.

        Args:
            source: The PEFT adapter. Settings that are not read from it and are in use become an error.

        Raises:
            CannotLoadError: A setting has no equivalent.
        """
        return None

    def peft_state(self, site: PeftStored) -> Mapping[str, Tensor]:
        """Return the tensors of a site's state from PEFT's tensors, by the state's own names.

        Args:
            site: The site. A tensor of a new adapter that is not returned stays as it is.

        Raises:
            CannotLoadError: The file lacks a tensor.
        """
        return {own: site.take(name) for name, own in self.peft_names.items()}
