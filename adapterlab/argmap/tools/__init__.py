"""Draw, format, edit, compare and export maps."""
