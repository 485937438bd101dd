"""Tuning a pretrained model into one that converses."""
