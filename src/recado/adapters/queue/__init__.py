"""Queues: what tells workers that there are jobs."""
