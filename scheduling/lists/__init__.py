"""A list in the database: its chunks, its difference from another list, and its overlap with other tasks."""
