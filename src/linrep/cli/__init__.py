"""The command line, one file a verb.

Results (paths, or JSON) go to stdout, everything else to stderr. Nothing heavy is imported before a verb runs.
"""
