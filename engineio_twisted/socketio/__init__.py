"""Socket.IO on an Engine.IO server: namespaces, rooms, acknowledgements (docs/socketio.md)."""
