"""Every number of a report computed anew from the recorded trials, with pandas, numpy, scipy and statsmodels alone.

Nothing here imports adapterlab. The methods are written from docs/statistics.md, docs/studies.md and the papers they name.
"""
