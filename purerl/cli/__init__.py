"""Commands: one small file per verb, on the options that `options` makes of dataclass fields."""
