"""Know frameworks: how each is recognized, and where it writes the site."""
