"""Checks that an environment keeps the contract of `purerl.Env`."""
