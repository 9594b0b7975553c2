"""Environments: tasks as pure functions."""
