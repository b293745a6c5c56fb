"""Fingerprints of a base model's parameters, by which loading an adapter recognizes the base that it was trained on.

The fingerprint of a parameter is its shape and up to 32 of its entries, as text. Entries are compared in the narrower of
two precisions, so the same checkpoint loaded in bfloat16 and in float32 is one base. A quantized weight has a hash of
stored bytes instead.

>>> first, second = (nn.Sequential(nn.Linear(4, 4)) for _ in range(2))
>>> difference(fingerprint(first), fingerprint(first.bfloat16())) is None
True
>>> difference(fingerprint(first), fingerprint(second))
'0.weight has other values'
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from adapterlab.surgery.model.dequantize import codes_of
from adapterlab.surgery.model.linear_layers import token_embedding
from adapterlab.surgery.model.submodules import in_adapter
from adapterlab.surgery.model.weights import stored_parts, without_codes

SAMPLED = 32
"""Entries of a parameter in its fingerprint."""
NUMBERS = "numbers"
"""Kind of a parameter that is not quantized."""


def fingerprint(model: nn.Module, adapted: Collection[str] = (), skip: Collection[str] = ()) -> dict[str, str]:
    """Return the fingerprints of a model's own parameters.

    Token embeddings and output heads are left out unless they are adapted: adding tokens makes no other base.

    Args:
        model: The model. Parameters without values (on the meta device) are left out.
        adapted: Paths of the adapted modules and parameters.
        skip: Paths of parameters to leave out, such as those that are trained as a whole.

    Returns:
        Fingerprints by the path of the parameter.
    """
    getter = getattr(model, "get_output_embeddings", None)
    vocabulary = (token_embedding(model), getter() if callable(getter) else None)
    resizable = {id(p) for module in vocabulary if module is not None for p in module.parameters()}
    found = {}
    for path, parameter in model.named_parameters():
        chosen = id(parameter) not in resizable or path in adapted or path.rpartition(".")[0] in adapted
        if chosen and path not in skip and not in_adapter(path) and not parameter.is_meta:
            found[path] = _of(codes_of(parameter).detach())
    return found


def difference(saved: Mapping[str, str], own: Mapping[str, str]) -> str | None:
    """Return a description of the first difference between two bases, or None if there is none.

    Args:
        saved: Fingerprints of the base that an adapter was trained on.
        own: Fingerprints of the base at hand.

    Raises:
        ValueError: A fingerprint is malformed.
    """
    if missing := [path for path in saved if path not in own]:
        return f"it has no {missing[0]}"
    if more := [path for path in own if path not in saved]:
        return f"it has {more[0]} too"
    parts = {path: (_parts(saved[path]), _parts(own[path])) for path in saved}
    alike = {path: pair for path, pair in parts.items() if pair[0].kind == pair[1].kind}
    if other := [path for path, (first, second) in alike.items() if first.shape != second.shape]:
        return f"{other[0]} has another shape"
    different = (path for path, (first, second) in alike.items() if not _equal(first, second))
    return next((f"{path} has other values" for path in different), None)


def stored_otherwise(saved: Mapping[str, str], own: Mapping[str, str]) -> str | None:
    """Return the path of a parameter that is quantized in one base and not in the other, or None.

    The values of such parameters are not compared.

    Args:
        saved: Fingerprints of the base that an adapter was trained on.
        own: Fingerprints of the base at hand.
    """
    return next((path for path in saved if path in own and _parts(saved[path]).kind != _parts(own[path]).kind), None)


class _Parts(NamedTuple):
    shape: str
    kind: str
    values: str


def _parts(text: str) -> _Parts:
    shape, kind, values = text.split(" ")
    return _Parts(shape, kind, values)


def _equal(first: _Parts, second: _Parts) -> bool:
    if first.values == second.values:
        return True
    return first.kind == NUMBERS and _same(_decoded(first.values), _decoded(second.values))


def _of(tensor: Tensor) -> str:
    shape = "x".join(map(str, tensor.shape)) or "scalar"
    if without_codes(tensor):
        values = _sample(tensor).float().cpu().numpy().astype("<f4").tobytes()
        return f"{shape} {NUMBERS} {base64.b64encode(values).decode()}"
    digest = hashlib.blake2b(digest_size=12)
    for part in stored_parts(tensor):
        digest.update(_sample(part).cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return f"{shape} {type(tensor).__name__} {digest.hexdigest()}"


def _sample(tensor: Tensor) -> Tensor:
    """Return entries at fixed positions, one in each of equally long stretches of the tensor."""
    flat = tensor.reshape(-1)
    count = min(SAMPLED, len(flat))
    stretch = len(flat) // max(1, count)
    # The position within a stretch varies, since stretches of whole rows would give one column alone.
    at = [i * stretch + (i * 7919) % stretch for i in range(count)]
    return flat[torch.tensor(at, dtype=torch.long, device=flat.device)]


def _decoded(values: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.frombuffer(base64.b64decode(values, validate=True), dtype="<f4")


def _same(first: np.ndarray, second: np.ndarray) -> bool:
    """Return True if two samples agree in the narrowest dtype that holds one of them exactly."""
    if first.shape != second.shape:
        return False
    a, b = torch.from_numpy(first.copy()), torch.from_numpy(second.copy())
    half = [(_holds(torch.bfloat16, values), _holds(torch.float16, values)) for values in (a, b)]
    for dtype, fits in zip((torch.bfloat16, torch.float16), zip(*half, strict=True), strict=True):
        if any(fits) and torch.equal(a.to(dtype), b.to(dtype)):
            return True
    # A float32 checkpoint in bfloat16 and in float16: neither rounding follows from the other. Float16 has steps of 2^-24.
    mixed = half[0][0] != half[1][0] and (half[1][1] if half[0][0] else half[0][1])
    return torch.equal(a, b) or (mixed and torch.allclose(a, b, rtol=2.0**-8, atol=2.0**-24))


def _holds(dtype: torch.dtype, values: Tensor) -> bool:
    return torch.equal(values.to(dtype).to(values.dtype), values)
