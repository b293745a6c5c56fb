"""Analysis of a study's finished trials: metrics, effects, scoreboard, Pareto front, rank stability, calibration."""
