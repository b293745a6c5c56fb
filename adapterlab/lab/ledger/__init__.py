"""Storage of finished trials."""
