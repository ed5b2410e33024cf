"""Explain a failed command: known causes, what to do, and a quote of the output."""
