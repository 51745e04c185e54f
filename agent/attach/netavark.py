"""Podman's netavark and its plugins (netavark-plugins(7)): requests of `trunkline-netavark` as attachments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.attach.api import Object, connected
from agent.attach.attachments import Attachments
from agent.attach.names import label, strings
from agent.attach.specs import Attached, AttachError, Attachment, Failure, Owner, Wanted
from agent.config import AgentConfig

ENGINE = "podman"


class Netavark:
    """`handle` for several threads at once."""

    def __init__(self, config: AgentConfig, attachments: Attachments) -> None:
        self._config = config
        self._attachments = attachments

    def handle(self, request: Mapping[str, Any], namespace: str | None) -> Object | None:
        """The status block after `setup`, None after `teardown`. Raises AttachError."""
        asked = request.get("config")
        try:
            network, its = asked["network"], asked["network_options"]  # type: ignore[index]
            attachment = Attachment(
                Owner(ENGINE, str(network["name"]), self._config.node),
                str(asked["container_id"]),  # type: ignore[index]
                str(its["interface_name"]),
            )
            options: Mapping[str, str] = network.get("options") or {}
        except (KeyError, TypeError, AttributeError) as error:
            raise AttachError(Failure.CONFIGURATION, f"what netavark says has no {error}") from None
        with connected(self._config, request) as api:
            if request.get("command") == "teardown":
                self._attachments.detach(api, attachment)
                return None
            if namespace is None:
                raise AttachError(Failure.ENVIRONMENT, "the network namespace did not come along")
            groups = options.get("security_groups")
            wanted = Wanted(
                options.get("network") or str(network["name"]),
                hostname=label(str(asked.get("container_name") or "")),  # type: ignore[union-attr]
                addresses=strings(its.get("static_ips") or (), "static_ips"),
                mac=its.get("static_mac"),
                security_groups=None if groups is None else tuple(part for part in groups.split(",") if part),
            )
            attached = self._attachments.attach(api, attachment, wanted, namespace)
        return _status_block(attached, attachment.ifname)


def _status_block(attached: Attached, ifname: str) -> Object:
    subnets = [
        {"ipnet": each.cidr, **({"gateway": each.gateway} if each.gateway is not None else {})}
        for each in attached.addresses
    ]
    return {
        "dns_search_domains": list(attached.search),
        "dns_server_ips": list(attached.name_servers),
        "interfaces": {ifname: {"mac_address": attached.mac, "subnets": subnets}},
    }
