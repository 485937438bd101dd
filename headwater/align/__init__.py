"""Alignment: preferences, reward models, rejection sampling, PPO and DPO."""
