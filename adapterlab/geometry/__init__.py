"""Geometry: read the hypotheses about a transformer off a weight change.

A contest mixes two questions: how much of a change an adapter can express, and how easily an optimizer reaches it. This
package answers the first alone. It takes a weight change that somebody made, measures its structure, and projects it on
the class of changes that each hypothesis allows.

>>> import torch
>>> from adapterlab.geometry import InMemory
>>> change = InMemory({"layer": (torch.eye(3), torch.eye(3) + 1)})
>>> change.read("layer").delta.shape
torch.Size([3, 3])
"""

from adapterlab.geometry.change import Change, InMemory, WeightChange

__all__ = ["Change", "InMemory", "WeightChange"]
