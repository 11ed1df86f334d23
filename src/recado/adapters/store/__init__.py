"""Stores: the conversations, durably."""
