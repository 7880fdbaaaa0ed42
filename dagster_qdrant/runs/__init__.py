"""One Dagster run, from its options to its results.

`run` is the way through it; the rooms know the destination and the pages, and no definitions.
"""
