"""Run one build: its story, its stages, and what surrounds them (signals, limits, the first cause, the result)."""
