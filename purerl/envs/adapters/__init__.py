"""Adapters from and to the environments of other libraries."""
