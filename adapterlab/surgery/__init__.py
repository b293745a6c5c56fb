"""Attach, detach, merge, scale, save and load adapters: the work that is the same for every method.

Rooms, from the top; each imports only from those below it:

- `io`: load saved adapters, of this library and of PEFT.
- `trainer`: training by transformers' Trainer and TRL.
- `sizing`, `attach`, `handle`, `adapter_files`: the life of one adapter on a model.
- `export`: write merged models, and folders that PEFT loads.
- `sites`: one kind of site each; `init`: what adapters are initialized from.
- `model`: the structure of a transformer.
"""

from adapterlab.surgery.attach import attach, seeded
from adapterlab.surgery.handle import Handle
from adapterlab.surgery.io.peft_import import load_peft
from adapterlab.surgery.io.restore import load, load_experts
from adapterlab.surgery.sizing import parameter_count, sized

__all__ = ["Handle", "attach", "load", "load_experts", "load_peft", "parameter_count", "seeded", "sized"]
