"""Walls around a program that nobody has read. Standard library alone: they are put up inside the new process."""
