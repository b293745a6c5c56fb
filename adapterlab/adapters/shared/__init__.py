"""The theme of sharing: parts of the model need the same change, or only a few weights need any."""
