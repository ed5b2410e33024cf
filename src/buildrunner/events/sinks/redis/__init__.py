"""Deliver events to a Redis stream and channel."""
