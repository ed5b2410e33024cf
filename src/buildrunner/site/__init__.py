"""Publish a directory of files as a site in S3. Knows nothing of logs, processes or settings."""
