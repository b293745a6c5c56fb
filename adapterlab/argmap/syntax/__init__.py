"""Tokens, syntax nodes and diagnostics of a text."""
