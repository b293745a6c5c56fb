"""The theme of orthogonality: useful change is a rotation."""
