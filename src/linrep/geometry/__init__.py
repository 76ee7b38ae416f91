"""The shared core: representations and pairs in; directions, metrics and nulls out.

Pure functions of arrays, in NumPy float64, used alike for simulated and for real models. This package
imports nothing of linrep but `linrep.errors`: it never learns where an array came from.
"""
