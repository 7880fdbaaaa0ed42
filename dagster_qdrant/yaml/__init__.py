"""Assets written as YAML: what a file may hold, and what its values become."""
