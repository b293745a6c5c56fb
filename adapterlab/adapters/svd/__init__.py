"""The theme of the singular basis: useful change lies in the singular vectors of the weight itself."""
