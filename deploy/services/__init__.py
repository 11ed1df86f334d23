"""Real servers in a folder of their own, on this machine's loopback: for `make production-demo` and for the tests.

Each class has start, stop, kill and restart, keeps its ports and its data from one start to the next, and logs to its
folder. None needs root, and none touches what the system's own services have.
"""
