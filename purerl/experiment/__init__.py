"""The only package with doors to disk, terminal and clock."""
