"""`python -m engineio_twisted`."""

from .operation.run import main

if __name__ == "__main__":
    main()
