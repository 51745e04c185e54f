"""What a command needs to talk to the server: address and token, names to ids, and the end of a write."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import typer

from controller.cli import render
from controller.cli.errors import CliError, ExitCode
from controller.cli.group import warn
from controller.client import ApiError, Client, Object, Tls, Written

DEFAULT_URL = "http://127.0.0.1:8080"
CONFIG_FILES = (Path("~/.config/trunkline/cli.yaml"), Path("/etc/trunkline/cli.yaml"))
"""The first one that names a setting wins."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_TOKEN = re.compile(r"[\x21-\x7e]+")


SETTINGS = ("url", "token", "ca", "certificate", "key")
"""Of which each may be an option, TRUNKLINE_... in the environment, or in a file."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`tls` is for https: only. `token` is empty where a node's certificate is all that it has."""

    url: str
    token: str
    tls: Tls = Tls()


def load_settings(
    given: Mapping[str, str | None], environment: Mapping[str, str], files: Sequence[Path] = CONFIG_FILES
) -> Settings:
    """Options (`given`) win over the environment, that over the files. Raises CliError (usage) for what is wrong."""
    sources: list[Mapping[str, Any]] = [
        given,
        {name: environment.get(f"TRUNKLINE_{name.upper()}") for name in SETTINGS},
    ]
    complete = all(any(source.get(name) for source in sources) for name in ("url", "token"))
    if not complete or _first(sources, "url").startswith("https:"):
        sources += [_read_file(path.expanduser()) for path in files]
    chosen_url = _first(sources, "url") or DEFAULT_URL
    chosen_token = _first(sources, "token").strip()
    for each in chosen_url.split(","):
        if not each.strip().startswith(("http://", "https://")):
            raise CliError(f"{each!r} is no http:// or https:// address", ExitCode.USAGE)
    tls = Tls(*(_first(sources, name) for name in ("ca", "certificate", "key")))
    if bool(tls.certificate) != bool(tls.key):
        raise CliError("certificate and key belong together", ExitCode.USAGE)
    if not chosen_token and not (tls.certificate and chosen_url.startswith("https:")):
        raise CliError(
            "no token: give --token, set TRUNKLINE_TOKEN, or write 'token: ...' in " + " or ".join(map(str, files)),
            ExitCode.USAGE,
        )
    if chosen_token and not _TOKEN.fullmatch(chosen_token):
        raise CliError("the token holds a blank, a control or a non-ASCII character", ExitCode.USAGE)
    return Settings(chosen_url, chosen_token, tls)


def _first(sources: Sequence[Mapping[str, Any]], name: str) -> str:
    return next((str(source[name]) for source in sources if source.get(name)), "")


def _read_file(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except PermissionError:
        return {}  # /etc/trunkline/cli.yaml holds the administrator's token: not for everyone
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"cannot read {path}: {error}", ExitCode.USAGE) from error
    import yaml

    try:
        content = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise CliError(f"{path} is not YAML: {' '.join(str(error).split())}", ExitCode.USAGE) from error
    if not isinstance(content, dict) or not content.keys() <= set(SETTINGS):
        raise CliError(f"{path} may hold {', '.join(SETTINGS)}, nothing else", ExitCode.USAGE)
    return content


def is_id(reference: str) -> bool:
    return _UUID.fullmatch(reference) is not None


class Session:
    """One run of the command. Nothing is read or connected before a command asks for `client`."""

    def __init__(self, given: Mapping[str, str | None]) -> None:
        """`given`: of `SETTINGS`, by options."""
        self._given = given

    @property
    def given(self) -> Mapping[str, str | None]:
        return self._given

    @staticmethod
    def of(context: typer.Context) -> Session:
        session = context.obj
        assert isinstance(session, Session)
        return session

    @cached_property
    def client(self) -> Client:
        settings = load_settings(self._given, os.environ)
        return Client(settings.url, settings.token, tls=settings.tls, warn=warn)

    def network(self, reference: str) -> Object:
        """By id or name. Raises CliError when the name is unknown or ambiguous."""
        return resolve("network", reference, self.client.get_network, self.client.list_networks)

    def port(self, reference: str) -> Object:
        """By id or name. Raises CliError when the name is unknown or ambiguous."""
        return resolve("port", reference, self.client.get_port, self.client.list_ports)

    def network_id(self, reference: str) -> str:
        """The id of a network, without asking the server when it is given as such."""
        return reference.lower() if _UUID.fullmatch(reference) else str(self.network(reference)["id"])

    def port_id(self, reference: str) -> str:
        """The id of a port, without asking the server when it is given as such."""
        return reference.lower() if _UUID.fullmatch(reference) else str(self.port(reference)["id"])

    def floating_ip_pool(self, reference: str) -> Object:
        """By id or name: the server knows both."""
        if not reference:
            raise CliError("an empty floating IP pool name", ExitCode.USAGE)
        return self.client.get_floating_ip_pool(reference)

    def floating_ip_pool_id(self, reference: str) -> str:
        return str(self.floating_ip_pool(reference)["id"])

    def floating_ip(self, reference: str) -> Object:
        """By id or address."""
        client = self.client
        return resolve(
            "floating_ip", reference, client.get_floating_ip, lambda name: client.list_floating_ips(address=name)
        )

    def floating_ip_id(self, reference: str) -> str:
        """The id of a floating IP, without asking the server when it is given as such."""
        return reference.lower() if _UUID.fullmatch(reference) else str(self.floating_ip(reference)["id"])

    def security_group(self, reference: str, project: str | None = None) -> Object:
        """By id or name, with its rules. `project`: a name is meant there. Raises CliError as the others do."""
        client = self.client
        found = resolve(
            "security_group",
            reference,
            client.get_security_group,
            lambda name: client.list_security_groups(name=name, project_id=project),
            "an id or --project",
        )
        return found if "rules" in found else client.get_security_group(str(found["id"]))

    def security_group_id(self, reference: str, project: str | None = None) -> str:
        """The id of a group, without asking the server when it is given as such."""
        return reference.lower() if _UUID.fullmatch(reference) else str(self.security_group(reference, project)["id"])

    def dns_zone(self, reference: str, project: str | None = None) -> Object:
        """By id or name. `project`: that project's. Raises CliError as the others do."""
        client = self.client
        return resolve(
            "dns_zone",
            reference,
            client.get_dns_zone,
            lambda name: client.list_dns_zones(name=name, project_id=project),
            "an id or --project",
        )

    def dns_zone_id(self, reference: str, project: str | None = None) -> str:
        """The id of a zone, without asking the server when it is given as such."""
        return reference.lower() if _UUID.fullmatch(reference) else str(self.dns_zone(reference, project)["id"])

    def dns_record(self, reference: str) -> Object:
        """By id or whole name, if that has one record."""
        client = self.client
        return resolve("dns_record", reference, client.get_dns_record, lambda name: client.list_dns_records(fqdn=name))

    def dns_record_id(self, reference: str) -> str:
        """The id of a record, without asking the server when it is given as such."""
        return reference.lower() if _UUID.fullmatch(reference) else str(self.dns_record(reference)["id"])

    def finish(
        self,
        written: Written,
        output: render.Format,
        wait: bool,
        timeout: float,
        show: Callable[[Object, render.Format], None] = render.show_object,
    ) -> None:
        """Wait for what was written if asked, and show it: as it is then, or as it was written if the wait is in vain.

        JSON and YAML carry the revision within the object.
        """
        found = written.object
        try:
            if wait:
                self.wait([written], wait, timeout)
                found = self.client.read_again(written)
        finally:
            show({**(found or {}), "revision": written.revision}, output)

    def finish_deletes(
        self,
        references: Sequence[str],
        find: Callable[[str], str],
        delete: Callable[[str], Written],
        output: render.Format,
        wait: bool,
        timeout: float,
    ) -> None:
        """Find and delete one by one, show which are gone even when a later one is refused, then wait if asked."""
        gone: list[Object] = []
        done: list[Written] = []
        try:
            for reference in references:
                identity = find(reference)
                written = delete(identity)
                done.append(written)
                gone.append({"deleted": reference, "id": identity, "revision": written.revision})
        finally:
            if gone or output is not render.Format.TABLE:
                render.show_list(gone, DELETED, output)
        self.wait(done, wait, timeout)

    def wait(self, written: Sequence[Written], wait: bool, timeout: float) -> None:
        """Wait for the newest of these revisions. Raises Unconfirmed."""
        revision = max((write.revision or 0 for write in written), default=0)
        if wait and revision:
            self.client.wait_revision(revision, timeout)


DELETED = (render.Column("deleted", "deleted"), render.Column("id", "id"), render.Column("revision", "revision"))


def resolve(
    kind: str,
    reference: str,
    by_id: Callable[[str], Object],
    by_name: Callable[..., list[Object]],
    ways_out: str = "an id",
) -> Object:
    """`ways_out`: what tells several of one name apart."""
    word = kind.replace("_ip", " IP").replace("dns_", "DNS ").replace("_", " ")
    if _UUID.fullmatch(reference):
        return by_id(reference.lower())
    if not reference:
        raise CliError(f"an empty {word} name", ExitCode.USAGE)
    found = by_name(name=reference)
    match found:
        case [one]:
            return one
        case []:
            raise ApiError(404, f"{kind}_unknown", f"no {word} is called {reference!r}")
    ids = ", ".join(f"{thing['id']} ({_owner(thing)})" for thing in found)
    raise CliError(f"{len(found)} {word}s are called {reference!r}, give {ways_out}: {ids}", ExitCode.USAGE)


def _owner(thing: Object) -> str:
    project = thing.get("project_id")
    return f"project {project}" if project else "of no project"
