"""Quantitative Argdown maps: read, check, score, question, rewrite and draw. Needs no torch."""
