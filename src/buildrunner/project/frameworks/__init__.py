"""Detect and describe frameworks: how to recognize each, and where it writes the site."""
