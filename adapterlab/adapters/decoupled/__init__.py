"""Direction and strength of a change are separate things."""
