"""Algorithms written only to try the contract: memory, noise with memory, and a delayed update."""
