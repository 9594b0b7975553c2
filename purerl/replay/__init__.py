"""Replay memories: a State and the pure functions init, add, sample."""
