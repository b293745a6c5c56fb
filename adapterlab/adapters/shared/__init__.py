"""What layers share: one pattern, one bank, or the sparse few weights that matter."""
