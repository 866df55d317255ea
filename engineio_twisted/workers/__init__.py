"""Several processes as one server, without sticky sessions: what C{twistd engineio --workers} runs."""
