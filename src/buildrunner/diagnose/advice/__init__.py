"""Advice that depends on more than the output: functions that rules name in `advice`."""
