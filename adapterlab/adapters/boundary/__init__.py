"""The theme of the boundary: the context is adapted, and no weight."""
