"""Useful change is a gain on what is already computed."""
