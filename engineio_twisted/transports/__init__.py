"""How packets get from a session to its client."""
