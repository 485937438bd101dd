"""The official benchmarks: their files, and the rules by which their authors ask and judge."""
