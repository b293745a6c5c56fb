"""The embedded base model, and loading of any model."""
