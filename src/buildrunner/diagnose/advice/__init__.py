"""Return hints that depend on more than the output: functions that rules name in `advice`."""
