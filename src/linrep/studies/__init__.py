"""Named questions, composed of the parts below: worlds, learning, geometry, concepts and models.

A study takes a validated configuration and returns tables; it writes no file and prints nothing.
"""
