"""Find out how a checkout is built, without running any of it."""
