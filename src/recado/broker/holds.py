"""Why a connection is not read for now; any number of these together, as bits of `Connection.held`."""

ASKING = 1
"""A packet waits for the application."""
FULL = 2
"""Too many publishes are under way."""
CONGESTED = 4
"""The transport's buffer is over its limit: the client does not read."""
CLOSING = 8
IN_TURN = 32
"""It has used up its turn of the event loop: the others come first."""
TOO_FAST = 16
"""It published too much, until the next second."""
