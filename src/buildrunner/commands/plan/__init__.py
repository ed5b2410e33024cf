"""`buildrunner plan`: what a build of a repository would do, and what in the repository decides it."""

from buildrunner.commands.plan.command import plan

__all__ = ["plan"]
