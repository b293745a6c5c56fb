"""Tuning: find the adapter and the learning rate for a user's model and data, with a study that fits the time given."""
