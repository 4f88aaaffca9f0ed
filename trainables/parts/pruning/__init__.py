"""Pruning while training: which weights, heads and neurons go, when, and that they stay away."""
