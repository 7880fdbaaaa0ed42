"""Rows -> points in a collection. Its rooms know of one table, and not of the load it is in."""
