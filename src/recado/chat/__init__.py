"""The conversations, pure: what a conversation, a message and an event are, who may do what, and one action per intent.

The modules beside `actions` and `membership` are rules: they import nothing of ours outside `chat`, and no clock, no
randomness and no I/O. `actions` and `membership` reach the outside through `recado.ports`.
"""
