"""P-tuning v2: a prompt in every layer, trained as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adapterlab.adapters.base import Context, State, Theme
from adapterlab.adapters.boundary.prefix import below_zero, keys_and_values, start
from adapterlab.adapters.invariants import Property
from adapterlab.adapters.kinds import Attention, Prefix, PrefixAdapter
from adapterlab.adapters.model_invariants import AnswersForOwnTokens, ChangesNoParameter


@dataclass(frozen=True)
class PTuningV2(PrefixAdapter):
    """Every layer attends to `[P_K; K]` and `[P_V; V]`, with `P_K` and `P_V (length, kv)` trained directly.

    The prompts of prefix tuning, made to work for understanding as for generation: without its reparametrization,
    which helps some tasks and hurts others and is here an option (`reparametrized`, with `hidden` units), and with
    a length chosen for the task, some twenty for a simple one and about a hundred for a hard one (Liu et al. 2021,
    section 3).
    """

    name = "ptuning_v2"
    title = "P-tuning v2"
    theme = Theme.BOUNDARY
    claim = "Prompts in every layer do what fine-tuning does, at any size and for hard tasks too."
    paper = "https://arxiv.org/abs/2110.07602"
    size_knob = "length"

    length: int = 20
    reparametrized: bool = False
    hidden: int = 512

    @property
    def invariants(self) -> tuple[Property, ...]:
        return ChangesNoParameter(), AnswersForOwnTokens()

    @property
    def starts_as_base(self) -> bool:
        return False

    def strength_problem(self, strength: float) -> str | None:
        return below_zero(strength)

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        return None if self.length > 0 < self.hidden else "length and hidden must be 1 or more"

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return range(1, 1025)

    def init(self, attention: Attention, context: Context) -> State:
        return start(self.length, self.hidden if self.reparametrized else None, attention, context)

    def prefix(self, state: State, attention: Attention, strength: float = 1.0) -> Prefix:
        return keys_and_values(state)
