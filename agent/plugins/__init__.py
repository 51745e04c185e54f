"""Programs that container engines start, each time anew: thin, with nothing but what Python has in any case."""
