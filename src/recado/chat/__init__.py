"""The conversations, pure: what a conversation, a message and an event are, who may do what, and one action per intent.

`actions`, `membership`, `receipts` and `presence` reach the outside through `recado.ports`. The other modules are
rules: they import nothing of ours outside `chat`, and no clock, no randomness and no I/O.
"""
