"""The data inside a report's page."""

from __future__ import annotations

import json
from typing import Any


def data_of(page: str) -> dict[str, Any]:
    """Data of the charts and lists of a page; empty for a page that is no report."""
    _, found, after = page.partition('<script type="application/json" id="report-data">')
    return json.loads(after.partition("</script>")[0]) if found else {}


def trials_of(page: str) -> list[str]:
    """The trials that a report has an address for."""
    return data_of(page).get("trials", {}).get("id", [])
