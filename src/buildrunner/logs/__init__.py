"""The log of a run: clean lines, the journal that orders them, and its followers."""
