"""Read the environment into settings."""
