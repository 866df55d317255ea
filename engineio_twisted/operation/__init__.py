"""What an operator needs: the command line, health checks, metrics, certificates."""
