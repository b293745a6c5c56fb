"""Useful change is a rotation."""
