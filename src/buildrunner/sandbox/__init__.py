"""Run one untrusted command, and remove everything it leaves behind."""

from typing import TYPE_CHECKING

from buildrunner.lazy import export_lazily

if TYPE_CHECKING:
    from buildrunner.sandbox.background import (
        LOOK as LOOK,
        Leftovers as Leftovers,
        wait_for_background as wait_for_background,
    )
    from buildrunner.sandbox.command import (
        LEFT_BEHIND_HINT as LEFT_BEHIND_HINT,
        REMOVE_SECONDS as REMOVE_SECONDS,
        Account as Account,
        Exit as Exit,
        Output as Output,
        Sandbox as Sandbox,
        harden_process as harden_process,
        remove_tree as remove_tree,
        run_program as run_program,
    )
    from buildrunner.sandbox.idle_detection import IdleProcess as IdleProcess, wait_until_idle as wait_until_idle
    from buildrunner.sandbox.memory import (
        heap_megabytes as heap_megabytes,
        memory_limit as memory_limit,
        node_options as node_options,
        peak_memory as peak_memory,
    )
    from buildrunner.sandbox.processes import as_typed as as_typed, main_program as main_program
else:
    __getattr__ = export_lazily(
        __name__,
        {
            "background": "LOOK Leftovers wait_for_background",
            "command": (
                "LEFT_BEHIND_HINT REMOVE_SECONDS Account Exit Output Sandbox harden_process remove_tree run_program"
            ),
            "idle_detection": "IdleProcess wait_until_idle",
            "memory": "heap_megabytes memory_limit node_options peak_memory",
            "processes": "as_typed main_program",
        },
    )
