"""A Socket.IO server and its clients in memory, for the tests of an application (docs/socketio-testing.md)."""
