"""Concept sets: counterfactual word pairs and context pairs, built in or of your own, and their lint.

`load` finds and turns them into rows, `formats` reads the files, `lint` judges them against a vocabulary. The
built in sets are in ``data/``; ``scripts/build_concepts.py`` writes them. This package never imports a model:
a vocabulary enters as a function from a word to its row.
"""
