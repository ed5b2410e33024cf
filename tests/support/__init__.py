"""Servers, repositories and programs that tests use."""
