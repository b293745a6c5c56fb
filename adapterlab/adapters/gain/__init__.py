"""The theme of gain: features that the model already computes are scaled."""
