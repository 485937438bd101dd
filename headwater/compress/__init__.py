"""Smaller models: weight-only quantization."""
