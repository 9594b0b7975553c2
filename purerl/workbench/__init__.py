"""Tools for runs that are done: statistics, plots, evaluation, films and exports; and loggers."""
