"""`buildrunner dev`: the same build on one's own machine, on servers of its own, then the published site over http."""

from buildrunner.commands.dev.command import dev

__all__ = ["dev"]
