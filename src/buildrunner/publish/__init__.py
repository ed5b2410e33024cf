"""Publish a folder as a site: what is sent, in which order, and who may."""

from typing import TYPE_CHECKING

from buildrunner.lazy import export_lazily

if TYPE_CHECKING:
    from buildrunner.publish.files import Limits as Limits, Selected as Selected, Site as Site, collect as collect
    from buildrunner.publish.lock import DeploymentLock as DeploymentLock
    from buildrunner.publish.review import review_site as review_site
    from buildrunner.publish.rules import take_rules as take_rules
    from buildrunner.publish.uploader import Upload as Upload
else:
    __getattr__ = export_lazily(
        __name__,
        {
            "files": "Limits Selected Site collect",
            "lock": "DeploymentLock",
            "review": "review_site",
            "rules": "take_rules",
            "uploader": "Upload",
        },
    )
