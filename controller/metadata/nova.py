"""Machines of Nova's are answered by Nova: their requests are handed on as Neutron's metadata agent does it."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

import structlog
import urllib3

from controller.metadata.documents import TEXT
from controller.metadata.reply import Reply, refusal
from flows.model import Port

MOST_BYTES: Final = 1 << 20
_CONNECTIONS: Final = 64


@dataclass(frozen=True, slots=True)
class NovaSettings:
    """`url` of nova-metadata without a path's end; `secret`: its metadata_proxy_shared_secret; `timeout` in seconds."""

    url: str
    secret: str
    timeout: float = 4.0

    def __repr__(self) -> str:  # the secret must not get into a log by way of a dataclass
        return f"NovaSettings({self.url})"


def knows(port: Port) -> bool:
    """Whether a port can be one of Nova's: these have the instance's UUID as their device_id."""
    return bool(port.device_id) and port.device_id.isascii()


class Nova:
    """nova-metadata, from the machines' side."""

    def __init__(self, settings: NovaSettings) -> None:
        self._settings = settings
        self._pool = urllib3.PoolManager(
            maxsize=_CONNECTIONS, retries=False, timeout=urllib3.Timeout(total=settings.timeout)
        )
        self._log = structlog.get_logger("controller.metadata")

    def headers(self, port: Port) -> dict[str, str]:
        """Who asks, signed (Nova's `metadata_proxy_shared_secret`). Nothing of it is from the machine's request."""
        addresses = [str(each.address) for each in port.fixed_ips] + [str(each.address) for each in port.ipv6_addresses]
        signature = hmac.new(self._settings.secret.encode(), port.device_id.encode(), hashlib.sha256)
        return {
            "X-Forwarded-For": addresses[0] if addresses else "",
            "X-Instance-ID": port.device_id,
            "X-Tenant-ID": port.project_id or "",
            "X-Instance-ID-Signature": signature.hexdigest(),
        }

    def ask(self, port: Port, method: str, path: str, body: bytes) -> Reply:
        """What nova-metadata says; 503 where it says nothing that can be handed on."""
        try:
            answer = self._pool.request(
                method,
                f"{self._settings.url.rstrip('/')}/{quote(path.lstrip('/'))}",
                body=body or None,
                headers=self.headers(port),
                redirect=False,
                preload_content=False,
            )
            content = answer.read(MOST_BYTES + 1)
            if len(content) > MOST_BYTES:
                answer.close()
            answer.release_conn()
        except urllib3.exceptions.HTTPError as error:
            self._log.warning("nova_metadata_unreachable", url=self._settings.url, reason=str(error))
            return refusal(HTTPStatus.SERVICE_UNAVAILABLE)
        return self._handed_on(answer.status, answer.headers.get("Content-Type", TEXT), content)

    def _handed_on(self, status: int, content_type: str, content: bytes) -> Reply:
        if status == HTTPStatus.FORBIDDEN:
            self._log.warning("nova_metadata_forbidden", url=self._settings.url, hint="is shared_secret Nova's?")
        if status in _HANDED_ON and len(content) <= MOST_BYTES:
            return Reply(HTTPStatus(status), content, content_type)
        self._log.warning("nova_metadata_failed", url=self._settings.url, status=status, bytes=len(content))
        return refusal(HTTPStatus.SERVICE_UNAVAILABLE)


# what says something to the machine; all else is between Nova and us
_HANDED_ON: Final = frozenset(
    {
        HTTPStatus.OK,
        HTTPStatus.NO_CONTENT,
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.METHOD_NOT_ALLOWED,
        HTTPStatus.CONFLICT,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)
