"""The commands beside `run`: each module is one."""
