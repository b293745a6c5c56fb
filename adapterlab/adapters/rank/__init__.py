"""Useful change has low rank, or some other short description."""
