"""Provide the servers, repositories and programs that tests use."""
