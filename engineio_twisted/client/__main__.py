"""`python -m engineio_twisted.client`."""

from .terminal import main

if __name__ == "__main__":
    main()
