"""The theme of the boundary: the context is adapted, or the token embedding, and no layer."""
