"""The typed recipe, the walk over its stages, the manifest of what was done from what, the report."""
