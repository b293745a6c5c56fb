"""The data of a report's page: plain values, from which its charts and tables are drawn in the browser.

>>> from adapterlab.report.data.numbers import rounded
>>> rounded(0.123456789)
0.123457
"""
