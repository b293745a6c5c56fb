"""Save and load adapters; export to PEFT."""
