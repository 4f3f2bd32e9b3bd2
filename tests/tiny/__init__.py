"""Tiny random checkpoints of real architectures, and tiny data in real formats."""
