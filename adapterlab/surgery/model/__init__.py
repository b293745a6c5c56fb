"""The structure of a transformer: decoder blocks, linear weights, new heads."""
