"""Brokers: what brings events and signals to the members' open connections."""
