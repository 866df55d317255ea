"""The protocol, pure: no Twisted, no clock, no IO."""
