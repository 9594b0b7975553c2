"""Other libraries' environments as purerl's, by what they can do and not by their class."""
