"""Renderers of results: the HTML report, the terminal output and `verdict.json`."""
