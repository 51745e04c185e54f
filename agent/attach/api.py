"""The controller's API as attachments need it: with a token of their own, one request after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from agent.attach.specs import AttachError, Failure
from agent.client import Client, ClientError
from agent.config import AgentConfig

Object = dict[str, Any]
_PAGE = 500
_NOW_NOT = frozenset({0, 408, 429, 500, 502, 503, 504})  # try again later


class Api:
    """In one thread. All methods raise AttachError."""

    def __init__(self, config: AgentConfig, client: Client, runner: asyncio.Runner) -> None:
        self._urls = len(config.api_urls)
        self._client = client
        self._runner = runner

    def network(self, named: str) -> Object:
        """By name or id."""
        found = self._list("networks", "networks", {"name": named})
        if len(found) > 1:
            raise AttachError(Failure.CONFIGURATION, f"{len(found)} networks are called {named}: give its id")
        if found:
            return found[0]
        try:
            network = self._call("GET", f"/v1/networks/{quote(named, safe='')}").get("network")
        except _Refused as refused:
            if refused.status in (400, 404):
                raise AttachError(Failure.CONFIGURATION, f"there is no network {named} for this token") from refused
            raise
        return _object(network)

    def ports(self, *, name: str | None = None, network_id: str | None = None) -> list[Object]:
        query = {"name": name, "network_id": network_id}
        return self._list("ports", "ports", {key: value for key, value in query.items() if value is not None})

    def create_port(self, fields: Mapping[str, object]) -> Object:
        return _object(self._call("POST", "/v1/ports", fields).get("port"))

    def delete_port(self, port_id: str) -> None:
        """One that has gone already is no error."""
        try:
            self._call("DELETE", f"/v1/ports/{quote(port_id, safe='')}")
        except _Refused as refused:
            if refused.status != 404:
                raise

    def network_config(self, port_id: str) -> Object:
        """Cloud-init's network config, version 2, of the port's machine, with addresses in any case."""
        answer = self._call("GET", f"/v1/ports/{quote(port_id, safe='')}/network-data?static=true")
        return _object(answer.get("network_config"))

    def _list(self, path: str, member: str, query: Mapping[str, str]) -> list[Object]:
        found: list[Object] = []
        marker: dict[str, str] = {}
        while True:
            page = self._call("GET", f"/v1/{path}?{urlencode({**query, 'limit': _PAGE, **marker})}").get(member)
            if not isinstance(page, list):
                raise AttachError(Failure.TRY_LATER, f"the controller's answer has no {member}")
            found += page
            if len(page) < _PAGE:
                return found
            marker = {"marker": str(page[-1]["id"])}

    def _call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, object]:
        """What changes something is asked once: it may have been done although no answer came. Every other call
        turns to the next controller, so that it meets one that answers.
        """
        for left in range(self._urls - 1, -1, -1):
            try:
                return self._runner.run(self._client.call(method, path, body))
            except ClientError as error:
                if error.status in _NOW_NOT:
                    self._client.next_url()
                    if left and method == "GET":
                        continue
                    raise AttachError(Failure.TRY_LATER, str(error)) from error
                raise _Refused(error) from error
        raise AssertionError("there is a controller to ask")


class _Refused(AttachError):
    def __init__(self, error: ClientError) -> None:
        super().__init__(Failure.REFUSED, str(error))
        self.status = error.status


@contextmanager
def connected(config: AgentConfig, request: Mapping[str, Any]) -> Iterator[Api]:
    """With the token of the request, or that of this machine; it is closed at the end. Raises AttachError."""
    client = Client(config.api_urls, _token(request.get("token"), config.plug_token_file), tls=config.tls)
    with asyncio.Runner() as runner:
        try:
            yield Api(config, client, runner)
        finally:
            client.close()
            runner.run(asyncio.sleep(0))  # what was closed now ends


def _token(given: object, path: str) -> str:
    if given is None:
        where, text = f"token file {path}", _read(path)
    else:
        where, text = "tokenFile", str(given).strip()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise AttachError(Failure.CONFIGURATION, f"{where} does not hold one token")
    return text


def _read(path: str) -> str:
    if not path:
        raise AttachError(Failure.CONFIGURATION, "no token: neither tokenFile here nor plug_token_file of the agent")
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        raise AttachError(Failure.CONFIGURATION, f"token file {path}: {error}") from None


def _object(value: object) -> Object:
    if not isinstance(value, dict):
        raise AttachError(Failure.TRY_LATER, "the controller's answer is none of its own")
    return value
