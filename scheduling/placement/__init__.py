"""Reserve, move and release places."""
