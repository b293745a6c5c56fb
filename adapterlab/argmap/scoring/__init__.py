"""Semantics, propagation, intervals and sensitivity of scores."""
