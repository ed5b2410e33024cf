"""Run one untrusted command, and leave nothing of it behind."""
