"""Side-by-side timings. Nothing is imported here: parts of this run in other environments."""
