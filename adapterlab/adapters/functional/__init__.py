"""The theme of function: what layers do together, or when, is adapted."""
