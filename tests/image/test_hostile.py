"""The attacks of `tests/system/hostile`, on tasks in their containers."""

from system.hostile.test_boundaries import *  # noqa: F403
from system.hostile.test_environment import *  # noqa: F403
from system.hostile.test_exhaustion import *  # noqa: F403
from system.hostile.test_git import *  # noqa: F403
from system.hostile.test_leftovers import *  # noqa: F403
from system.hostile.test_npm import *  # noqa: F403
from system.hostile.test_output_directory import *  # noqa: F403
from system.hostile.test_secrets import *  # noqa: F403
