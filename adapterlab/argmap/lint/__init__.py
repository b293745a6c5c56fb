"""Checks of a map: structure, numbers, and evidence."""
