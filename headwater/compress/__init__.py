"""Smaller models: weight-only quantization, and fewer blocks."""
