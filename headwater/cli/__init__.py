"""The command line: one command per stage, help and overrides; no logic."""
