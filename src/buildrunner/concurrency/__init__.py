"""Time limits, threads and parallel work that every room uses."""
