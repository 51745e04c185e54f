"""Several controllers on one database: who is there, who masters which node, and what the others have confirmed."""
