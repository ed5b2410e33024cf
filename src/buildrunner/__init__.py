"""Turn a git URL into a live static site: clone, install, build, stream every line, publish."""

__version__ = "0.1.0"
