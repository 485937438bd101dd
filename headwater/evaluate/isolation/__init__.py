"""Walls around a program that nobody has read: standard library alone, because they are put up inside the new process."""
