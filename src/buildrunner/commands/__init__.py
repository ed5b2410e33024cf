"""The commands: `table` lists them, `parser` reads their command lines, and each other module is one of them."""
