"""A trial, one training run: its specification, its training and its scores."""
