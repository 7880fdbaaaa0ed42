"""A collection made beside the one that is read, and how it takes its place."""
