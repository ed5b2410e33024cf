"""Speak to S3 and servers like it."""
