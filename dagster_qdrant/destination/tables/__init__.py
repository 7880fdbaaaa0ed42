"""What hints ask for a table, and how a row becomes a point. Its rooms talk to no Qdrant."""
