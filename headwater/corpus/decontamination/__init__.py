"""Benchmark questions inside documents."""
