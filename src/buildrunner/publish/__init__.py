"""Publish a folder as a site: collect its files, order concurrent builds, and upload."""

from typing import TYPE_CHECKING

from buildrunner.lazy import export_lazily

if TYPE_CHECKING:
    from buildrunner.publish.files import Site as Site, collect as collect
    from buildrunner.publish.lock import DeploymentLock as DeploymentLock
    from buildrunner.publish.review import review_site as review_site
    from buildrunner.publish.rules import take_rules as take_rules
    from buildrunner.publish.uploader import Upload as Upload
    from buildrunner.publish.walk import Limits as Limits, Selected as Selected
else:
    __getattr__ = export_lazily(
        __name__,
        {
            "files": "Site collect",
            "lock": "DeploymentLock",
            "review": "review_site",
            "rules": "take_rules",
            "uploader": "Upload",
            "walk": "Limits Selected",
        },
    )
