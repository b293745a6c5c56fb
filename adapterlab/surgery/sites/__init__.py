"""Kinds of sites: for each, the places on a model and the module that is attached there."""
