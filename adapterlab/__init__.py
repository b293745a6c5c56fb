"""Parameter-efficient adapters as hypotheses about a transformer, contests between them, and what follows."""
