"""Which adapter for my model and my data: from files to a ranking, an advice, and the winner as a checkpoint."""
