"""What the trials of a study mean: metrics, effects, scoreboard, Pareto front, ranks."""
