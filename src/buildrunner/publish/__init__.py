"""Publish a folder as a site: what is sent, in which order, and who may."""
