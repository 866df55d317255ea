"""One session, and all sessions of a server."""
