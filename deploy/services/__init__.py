"""Real servers in a folder of their own, on this machine's loopback: the article's PostgreSQL, SQS and Mosquitto.

`make production-demo` runs them, and so do benchmarks and tests, which stop and kill them too; what tests alone need is
in tests/support. Each keeps its ports and its data from one `start` to the next, and logs to its folder. None needs
root, and none touches what the system's own services have.
"""
