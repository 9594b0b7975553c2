"""Algorithms, one file each, and the helpers that they call."""
