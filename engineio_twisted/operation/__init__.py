"""Running in production: the command line, health checks, metrics, certificates."""
