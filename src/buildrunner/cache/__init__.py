"""Keep dependencies and tools between builds, in the state bucket."""
