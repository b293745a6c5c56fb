"""Initialization data of adapters: the cache of singular value decompositions, and calibration runs."""
