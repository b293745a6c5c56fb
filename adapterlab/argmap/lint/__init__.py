"""Checks for what is wrong with a map."""
