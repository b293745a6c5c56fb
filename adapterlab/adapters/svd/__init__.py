"""The weight's own singular basis is where useful change lives."""
