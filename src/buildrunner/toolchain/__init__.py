"""Install the Node and the package manager that a build needs."""

from typing import TYPE_CHECKING

from buildrunner.lazy import export_lazily

if TYPE_CHECKING:
    from buildrunner.toolchain.installer import Toolchain as Toolchain, ToolchainInstaller as ToolchainInstaller
else:
    __getattr__ = export_lazily(
        __name__,
        {
            "installer": "Toolchain ToolchainInstaller",
        },
    )
