"""python -m buildrunner."""

from buildrunner.cli import main

if __name__ == "__main__":
    main()
