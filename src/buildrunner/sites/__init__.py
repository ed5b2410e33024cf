"""Serve published sites from the bucket by their authors' rules: `buildrunner sites`."""
