"""The width of a model: the size of its hidden states, read from its configuration without loading its weights.

>>> width("embedded")
256
"""

from __future__ import annotations

from functools import cache

from adapterlab.errors import AdapterlabError
from adapterlab.models.fingerprint import place_of


@cache
def width(source: str) -> int | None:
    """Return the hidden size of a model, or None if its configuration cannot be read or does not name one.

    Args:
        source: `"embedded"`, a fetched model, a folder, a GGUF file, or an id on the hub.
    """
    from transformers import AutoConfig

    try:
        where, revision = place_of(source)
        files = {} if revision is None else {"revision": revision}
        config = AutoConfig.from_pretrained(where, trust_remote_code=False, **files)
    except (AdapterlabError, OSError, ValueError):
        return None
    found = getattr(config.get_text_config(), "hidden_size", None)
    return found if isinstance(found, int) else None
