"""Detect and describe package managers: their lockfiles, commands, and fallbacks after a failed install."""
