"""Where text comes from: concept graphs, which contexts exist, and the exact p(token | context).

Everything here is exact and in NumPy float64, so that a trained predictor is compared with the truth and not
with an estimate of it. Nothing here may import JAX or know how a predictor learns.
"""
