"""Read the environment into frozen settings.

`variables` is the one table of environment variables; `kinds` says how the text of one is parsed; `environment` reads the
variables of a command and names every problem at once; `settings` is what a build is given.
"""
