"""What a person looks at in the UI. Its rooms read collections, and know nothing of runs."""
