"""Provide the Node and the package manager that a build needs."""
