"""Check out one commit of a repository, with submodules, LFS files and history."""

from typing import TYPE_CHECKING

from buildrunner.lazy import export_lazily

if TYPE_CHECKING:
    from buildrunner.checkout.clone import clone as clone
    from buildrunner.checkout.git import Checkout as Checkout
else:
    __getattr__ = export_lazily(
        __name__,
        {
            "clone": "clone",
            "git": "Checkout",
        },
    )
