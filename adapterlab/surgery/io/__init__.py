"""Load saved adapters."""
