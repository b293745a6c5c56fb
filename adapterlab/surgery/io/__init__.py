"""Load saved adapters, and export them to PEFT."""
