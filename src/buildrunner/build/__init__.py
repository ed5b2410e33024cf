"""Run one build: its pipeline, its stages, and their supervision (signals, time limits, the result)."""
