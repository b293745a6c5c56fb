"""Specification of a study: from a TOML file to a validated `Study`."""
