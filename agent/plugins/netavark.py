"""`trunkline-netavark`, a plugin of podman's netavark (netavark-plugins(7)): create, setup, teardown, info.

It has the agent of this machine do what there is to do.
"""

from __future__ import annotations

import json
import sys

from agent.plugins.asking import SOCKET, NoToken, Unanswered, ask, token

API_VERSION = "1.0.0"
OPTIONS = ("network", "token_file", "security_groups", "socket")


class _Failed(Exception):
    pass


def main(arguments: list[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    try:
        result = _answer(given)
    except _Failed as failed:
        _print({"error": str(failed)})
        return 1
    if result is not None:
        _print(result)
    return 0


def _answer(arguments: list[str]) -> object:
    match arguments:
        case [] | ["info"]:
            from agent.version import version  # late: looking for packages takes longer than all the rest

            return {"version": version(), "api_version": API_VERSION}
        case ["create"]:
            return _created(_document())
        case [("setup" | "teardown") as command, namespace]:
            return _asked(command, namespace, _document())
    raise _Failed("it is called with info, create, setup NETNS or teardown NETNS")


def _document() -> dict[str, object]:
    try:
        document = json.load(sys.stdin)
    except (ValueError, RecursionError) as error:
        raise _Failed(f"what netavark says is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise _Failed("what netavark says is no JSON object")
    return document


def _created(network: dict[str, object]) -> dict[str, object]:
    """The network as podman is to keep it: as it is, once it is clear that it can work."""
    for name in _options(network):
        if name not in OPTIONS:
            raise _Failed(f"option {name}: there are {', '.join(OPTIONS)}")
    if network.get("internal"):
        raise _Failed("internal: whether it leads outside is decided at the controller")
    ipam = network.get("ipam_options")
    driver = ipam.get("driver") if isinstance(ipam, dict) else None
    if driver not in (None, "none"):
        raise _Failed(f"IPAM driver {driver}: addresses are the controller's; create it with --ipam-driver none")
    return network


def _options(network: dict[str, object]) -> dict[str, object]:
    options = network.get("options")
    return options if isinstance(options, dict) else {}


def _asked(command: str, namespace: str, asked: dict[str, object]) -> object:
    network = asked.get("network")
    options = _options(network) if isinstance(network, dict) else {}
    if command == "setup" and asked.get("port_mappings"):
        raise _Failed("ports are published by floating IPs and port forwardings, not with -p")
    request: dict[str, object] = {"plugin": "netavark", "command": command, "config": asked}
    try:
        request |= token(options.get("token_file"))
        answer = ask(str(options.get("socket") or SOCKET), request, namespace if command == "setup" else "")
    except (NoToken, Unanswered) as error:
        raise _Failed(str(error)) from None
    except OSError as error:
        raise _Failed(f"network namespace {namespace}: {error.strerror}") from None
    refused = answer.get("error")
    if isinstance(refused, dict):
        raise _Failed(str(refused.get("msg")))
    return answer.get("result")


def _print(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")


if __name__ == "__main__":
    sys.exit(main())
