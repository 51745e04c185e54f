"""The Container Network Interface, version 1.1.0 and two before it: requests of `trunkline-cni` as attachments.

The plugin itself has checked the environment, and answers VERSION (agent/plugins/cni.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_interface
from typing import Any

from agent.attach.api import Api, Object, connected
from agent.attach.attachments import Attachments
from agent.attach.names import label, strings, table, tables
from agent.attach.specs import Address, Attached, AttachError, Attachment, Failure, Owner, Wanted
from agent.config import AgentConfig

ENGINE = "cni"
_VALID = "cni.dev/valid-attachments"
_NOT_OURS = ("ipam", "ipMasq", "isGateway", "isDefaultGateway")


class Cni:
    """`handle` for several threads at once."""

    def __init__(self, config: AgentConfig, attachments: Attachments) -> None:
        self._config = config
        self._attachments = attachments

    def handle(self, request: Mapping[str, Any], namespace: str | None) -> Object | None:
        """The result, None where there is none. `namespace` is the path of the container's. Raises AttachError."""
        command, conf = request.get("command"), request.get("config")
        if not isinstance(conf, dict) or not isinstance(conf.get("name"), str) or not conf["name"]:
            raise AttachError(Failure.CONFIGURATION, "the network configuration has no name")
        network = str(conf.get("network") or conf["name"])
        owner = Owner(ENGINE, conf["name"], self._config.node)
        if command == "STATUS":
            _status(self._config, request, network)
            return None
        with connected(self._config, request) as api:
            if command == "GC":
                self._attachments.collect(api, owner, network, _valid(owner, conf))
            else:
                attachment = Attachment(owner, str(request["container_id"]), str(request["ifname"]))
                return self._of_one(api, attachment, network, request, conf, namespace)
        return None

    def _of_one(
        self,
        api: Api,
        attachment: Attachment,
        network: str,
        request: Mapping[str, Any],
        conf: Object,
        namespace: str | None,
    ) -> Object | None:
        if request["command"] == "DEL":
            self._attachments.detach(api, attachment)
            return None
        if namespace is None:
            raise AttachError(Failure.ENVIRONMENT, "the network namespace of CNI_NETNS did not come along")
        if request["command"] == "CHECK":
            previous = conf.get("prevResult")
            if not isinstance(previous, dict):
                raise AttachError(Failure.CONFIGURATION, "CHECK needs prevResult")
            self._attachments.check(api, attachment, namespace, _expected(previous, attachment.ifname))
            return None
        attached = self._attachments.attach(api, attachment, _wanted(network, conf, request.get("args")), namespace)
        return _result(attached, attachment.ifname, str(request.get("netns")), conf)


def _status(config: AgentConfig, request: Mapping[str, Any], network: str) -> None:
    """Whether ADD can be done: with the token, at the controller, on the network."""
    try:
        with connected(config, request) as api:
            api.network(network)
    except AttachError as error:
        raise AttachError(Failure.UNAVAILABLE, str(error)) from error


def _valid(owner: Owner, conf: Object) -> list[Attachment]:
    if _VALID not in conf:  # without it everything would be waste
        raise AttachError(Failure.CONFIGURATION, f"GC needs {_VALID}")
    return [Attachment(owner, str(each.get("containerID")), str(each.get("ifname"))) for each in tables(conf, _VALID)]


def _wanted(network: str, conf: Object, arguments: object) -> Wanted:
    """What is wanted of the port: by the configuration, by capabilities (`ips`, `mac`), by CNI_ARGS."""
    for name in _NOT_OURS:
        if conf.get(name):
            raise AttachError(Failure.CONFIGURATION, f"{name}: addresses and gateways are the controller's business")
    if conf.get("prevResult"):
        raise AttachError(Failure.CONFIGURATION, "it must be the first plugin of its list")
    given = _arguments(arguments)
    runtime = table(conf, "runtimeConfig")
    args = table(table(conf, "args"), "cni")
    addresses = strings(runtime.get("ips") or args.get("ips") or [each for each in [given.get("IP")] if each], "ips")
    groups = conf.get("securityGroups")
    return Wanted(
        network,
        hostname=label(given.get("K8S_POD_NAME", "")),
        addresses=tuple(address.partition("/")[0] for address in addresses),
        mac=runtime.get("mac") or args.get("mac") or given.get("MAC"),
        security_groups=None if groups is None else strings(groups, "securityGroups"),
    )


def _arguments(text: object) -> dict[str, str]:
    """CNI_ARGS: NAME=VALUE with semicolons between them."""
    pairs = (part.partition("=") for part in str(text or "").split(";") if part)
    return {name: value for name, _, value in pairs}


def _expected(previous: Object, ifname: str) -> list[Address]:
    """The addresses of the container's interface in a result."""
    interfaces = tables(previous, "interfaces")
    ours = {index for index, each in enumerate(interfaces) if each.get("sandbox") and each.get("name") == ifname}
    if not ours:
        raise AttachError(Failure.CONFIGURATION, f"prevResult has no interface {ifname} in a sandbox")
    cidrs = [str(each.get("address")) for each in tables(previous, "ips") if each.get("interface") in ours]
    try:
        return [Address(str(ip_interface(cidr)), None) for cidr in cidrs]
    except ValueError as error:
        raise AttachError(Failure.CONFIGURATION, f"prevResult: {error}") from None


def _result(attached: Attached, ifname: str, sandbox: str, conf: Object) -> Object:
    version = str(conf.get("cniVersion"))
    inside: Object = {"name": ifname, "mac": attached.mac, "sandbox": sandbox}
    if version == "1.1.0":
        inside["mtu"] = attached.mtu
    ips: list[Object] = []
    for address in attached.addresses:
        shown: Object = {"address": address.cidr, "interface": 1}
        if address.gateway is not None:
            shown["gateway"] = address.gateway
        if version == "0.4.0":
            shown["version"] = "6" if ":" in address.cidr else "4"
        ips.append(shown)
    dns = {"nameservers": list(attached.name_servers), "search": list(attached.search)}
    return {
        "cniVersion": version,
        "interfaces": [{"name": attached.device, "mac": attached.device_mac}, inside],
        "ips": ips,
        "routes": [{"dst": route.to, "gw": route.via} for route in attached.routes],
        "dns": conf.get("dns") or {name: listed for name, listed in dns.items() if listed},
    }
