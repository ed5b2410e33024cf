"""Known causes of failures, by area. Each rule has a stable id."""
