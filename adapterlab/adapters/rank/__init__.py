"""The theme of rank: useful change has low rank, or another short description."""
