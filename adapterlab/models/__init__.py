"""The embedded base model, and loading anybody's."""
