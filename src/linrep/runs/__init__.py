"""Run directories: what a study computed, with all that is needed to check it and to run it again.

`linrep.runs.store` writes and reads them. Nothing here computes a number or draws a figure.
"""
