"""Describe frameworks: how to recognize each, and where it writes the site."""
