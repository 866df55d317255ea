"""
Connections to a Redis server, for whatever sends messages between processes. Needs the extra C{redis}.

docs/socketio-redis.md.
"""

from .address import RedisAddress
from .connection import RedisConnection, RedisOptions, RedisStats

__all__ = ["RedisAddress", "RedisConnection", "RedisOptions", "RedisStats"]
