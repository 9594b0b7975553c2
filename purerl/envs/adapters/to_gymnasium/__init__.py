"""Environments of purerl as Gymnasium environments."""
