"""The I/O boundary of a run: disk, terminal, clock and signals."""
