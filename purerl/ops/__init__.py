"""Pure mathematics: one equation a function, time first, any trailing batch axes."""
