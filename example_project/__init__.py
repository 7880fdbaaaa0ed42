"""A Dagster project that loads films, a shop, notes and Python's own manual into Qdrant.

It runs with no network, no server and no key. Start reading at `definitions.py`.
"""
