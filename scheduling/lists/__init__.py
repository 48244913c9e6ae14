"""A stored list: its chunks, differences and overlaps."""
