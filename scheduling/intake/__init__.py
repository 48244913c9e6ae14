"""Accept a list and write its rows."""
