"""Report the start and the end of a build to others: webhooks, and statuses of the commit."""

from typing import TYPE_CHECKING

from buildrunner.lazy import export_lazily

if TYPE_CHECKING:
    from buildrunner.notify.commit_status import CommitStatus as CommitStatus
    from buildrunner.notify.notifier import Notifier as Notifier
    from buildrunner.notify.webhook import Webhook as Webhook
else:
    __getattr__ = export_lazily(
        __name__,
        {
            "commit_status": "CommitStatus",
            "notifier": "Notifier",
            "webhook": "Webhook",
        },
    )
