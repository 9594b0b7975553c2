"""The algorithms, one readable file each, and two files of loops that they call."""
