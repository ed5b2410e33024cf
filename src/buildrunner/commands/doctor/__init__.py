"""`buildrunner doctor`: try everything that a build needs, and say how to fix what does not work."""

from buildrunner.commands.doctor.command import doctor

__all__ = ["doctor"]
