"""Published and local results as data, pooled over studies and carried between model sizes."""

from adapterlab.evidence.store import Store
from adapterlab.evidence.table import Score, Table, read_table

__all__ = ["Score", "Store", "Table", "read_table"]
