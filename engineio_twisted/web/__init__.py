"""The twisted.web side: the only place for private names of twisted.web's."""
