"""The stages of a build, in one module each."""

from typing import TYPE_CHECKING

from buildrunner.lazy import export_lazily

if TYPE_CHECKING:
    from buildrunner.build.stages.build import BuildStage as BuildStage
    from buildrunner.build.stages.clone import clone_repository as clone_repository
    from buildrunner.build.stages.context import StageContext as StageContext
    from buildrunner.build.stages.install import InstallStage as InstallStage
    from buildrunner.build.stages.plan import plan_build as plan_build
    from buildrunner.build.stages.site import prepare_site as prepare_site
    from buildrunner.build.stages.toolchain import ToolchainProvider as ToolchainProvider
    from buildrunner.build.stages.upload import publish_site as publish_site
else:
    __getattr__ = export_lazily(
        __name__,
        {
            "build": "BuildStage",
            "clone": "clone_repository",
            "context": "StageContext",
            "install": "InstallStage",
            "plan": "plan_build",
            "site": "prepare_site",
            "toolchain": "ToolchainProvider",
            "upload": "publish_site",
        },
    )
