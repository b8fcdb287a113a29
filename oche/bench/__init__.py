"""`oche bench`: time and memory of a step in several forms of the same computation."""
