"""Attach, detach, merge, strength, save and load: the work that is the same for every method."""

from adapterlab.surgery.attach import Handle, attach, seeded
from adapterlab.surgery.io.store import load, load_experts
from adapterlab.surgery.sizing import parameter_count, sized

__all__ = ["Handle", "attach", "load", "load_experts", "parameter_count", "seeded", "sized"]
