"""Replay buffers: each module has a State and the pure functions init, add, sample and update."""
