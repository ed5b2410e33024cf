"""Check out one commit of a repository, with submodules, LFS files and history."""

from typing import TYPE_CHECKING

from buildrunner.lazy import export_lazily

if TYPE_CHECKING:
    from buildrunner.checkout.clone import clone_repository as clone_repository
    from buildrunner.checkout.git import Checkout as Checkout
else:
    __getattr__ = export_lazily(
        __name__,
        {
            "clone": "clone_repository",
            "git": "Checkout",
        },
    )
