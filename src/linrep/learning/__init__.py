"""What is learned: predictors of the next token, their exact expected loss, and training vmapped over seeds.

Only this part and theory/ import JAX; what training returns are NumPy arrays. Nothing here may measure geometry.
"""
