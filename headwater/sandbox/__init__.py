"""Walls around code that nobody has read. What stands inside is the standard library alone."""
