"""The structure of a transformer: decoder, blocks, attentions, linear layers and weights."""
