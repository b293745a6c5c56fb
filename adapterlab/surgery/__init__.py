"""Attach, detach, merge, strength, save and load: the work that is the same for every method."""

from adapterlab.surgery.attach import Handle, attach, seeded
from adapterlab.surgery.budget import parameter_count, sized
from adapterlab.surgery.store import load, load_experts

__all__ = ["Handle", "attach", "load", "load_experts", "parameter_count", "seeded", "sized"]
