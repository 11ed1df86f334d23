"""MQTT 3.1, 3.1.1 and 5.0 without I/O: bytes and times go in, packets and bytes come out.

Nothing here sees a socket, a clock, a coroutine or a random number, and nothing here imports another part of recado.
`codec` turns bytes into the classes of `packets` and back; `topics` holds the rules of topic names and filters.
"""
