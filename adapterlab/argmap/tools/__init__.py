"""Tools on maps: draw, format, edit, compare and export."""
