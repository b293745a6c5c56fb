r"""Tables whose results the credences of a map take into account already.

>>> from adapterlab.argmap import parse
>>> counted_sources(parse("===\ncounted: [peft-arena]\n===\n\n[A]: a"))
['peft-arena']
"""

from __future__ import annotations

from adapterlab.argmap import Map
from adapterlab.errors import AdapterlabError
from adapterlab.evidence.store import Store


def counted_sources(the_map: Map) -> list[str]:
    """Return the sources that a map's credences count already: those of its settings, else the package's tables.

    Args:
        the_map: The map.

    Returns:
        Names of sources.

    Raises:
        AdapterlabError: If the setting has another form.
    """
    stated = the_map.settings.get("counted")
    if stated is None:
        return [table.source for table in Store().tables]
    if isinstance(stated, str):
        return [stated]
    if not isinstance(stated, list) or not all(isinstance(name, str) for name in stated):
        raise AdapterlabError(
            f"{the_map.source.name}: counted is {stated!r}: give the names of tables, as counted: [lr-matters]"
        )
    return [str(name) for name in stated]
