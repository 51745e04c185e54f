"""After a commit: let the snapshot follow the journal."""

from __future__ import annotations

import structlog

from controller.api.services import Services


def publish(services: Services) -> None:
    """A failure is logged and not answered: the write is done, and a client told otherwise would do it again."""
    try:
        services.publish()
    except Exception:
        structlog.get_logger().exception("api_publish_failed")
