"""`trunkline-cni`, a plugin of the Container Network Interface, 1.1.0: ADD, DEL, CHECK, STATUS, GC, VERSION.

It checks what it is given, and has the agent of this machine do the rest.
"""

from __future__ import annotations

import json
import os
import sys

from agent.plugins.asking import SOCKET, NoToken, Unanswered, ask, token

VERSIONS = ("0.4.0", "1.0.0", "1.1.0")
_LATEST = "1.1.0"
# what each command must have in its environment
_NEEDED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "GC": (),
    "STATUS": (),
    "VERSION": (),
}
# which are younger than others
_SINCE = {"GC": "1.1.0", "STATUS": "1.1.0"}

_INCOMPATIBLE, _ENVIRONMENT, _DECODING, _CONFIGURATION, _TRY_LATER, _UNAVAILABLE = 1, 4, 6, 7, 11, 50


class _Failed(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def main() -> int:
    version = _LATEST
    try:
        command = _command()
        conf = _configuration(sys.stdin.read())
        said = conf.get("cniVersion")
        if command == "VERSION":
            _print({"cniVersion": said if isinstance(said, str) else _LATEST, "supportedVersions": list(VERSIONS)})
            return 0
        if not isinstance(said, str) or said not in VERSIONS or said < _SINCE.get(command, ""):
            raise _Failed(_INCOMPATIBLE, f"{command} is not possible with cniVersion {said}")
        version = said
        result = _asked(command, conf)
    except _Failed as failed:
        _print({"cniVersion": version, "code": failed.code, "msg": str(failed)})
        return 1
    if result is not None:
        _print(result)
    return 0


def _command() -> str:
    """Raises _Failed when something in the environment is missing or wrong."""
    command = os.environ.get("CNI_COMMAND", "")
    if command not in _NEEDED:
        raise _Failed(_ENVIRONMENT, f"CNI_COMMAND is {command!r}, and not one of {', '.join(_NEEDED)}")
    missing = [name for name in _NEEDED[command] if not os.environ.get(name)]
    if missing:
        raise _Failed(_ENVIRONMENT, f"{command} needs {', '.join(missing)}")
    if "CNI_CONTAINERID" in _NEEDED[command]:
        if not _is_container_id(os.environ["CNI_CONTAINERID"]):
            raise _Failed(_ENVIRONMENT, "CNI_CONTAINERID is none: a letter or digit, then these and _ . -")
        if not _is_device(os.environ["CNI_IFNAME"]):
            raise _Failed(_ENVIRONMENT, "CNI_IFNAME is no name of a device")
    return command


def _is_container_id(text: str) -> bool:
    return text.isascii() and text[0].isalnum() and all(each.isalnum() or each in "_.-" for each in text)


def _is_device(text: str) -> bool:
    """What the agent takes, too: less than Linux takes."""
    known = text.isascii() and all(each.isalnum() or each in "_.-" for each in text)
    return known and len(text) < 16 and text not in (".", "..")


def _configuration(text: str) -> dict[str, object]:
    try:
        conf = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _Failed(_DECODING, f"the network configuration is no JSON: {error}") from None
    if not isinstance(conf, dict):
        raise _Failed(_DECODING, "the network configuration is no JSON object")
    return conf


def _asked(command: str, conf: dict[str, object]) -> object:
    """The result of the agent. Raises _Failed."""
    environment = os.environ
    namespace = environment.get("CNI_NETNS", "") if command in ("ADD", "CHECK") else ""
    request: dict[str, object] = {
        "plugin": "cni",
        "command": command,
        "container_id": environment.get("CNI_CONTAINERID", ""),
        "ifname": environment.get("CNI_IFNAME", ""),
        "netns": namespace,
        "args": environment.get("CNI_ARGS", ""),
        "config": conf,
    }
    try:
        request |= token(conf.get("tokenFile"))
        answer = ask(str(conf.get("socket") or SOCKET), request, namespace)
    except NoToken as error:
        raise _Failed(_UNAVAILABLE if command == "STATUS" else _CONFIGURATION, str(error)) from None
    except Unanswered as error:
        raise _Failed(_UNAVAILABLE if command == "STATUS" else _TRY_LATER, str(error)) from None
    except OSError as error:
        raise _Failed(_ENVIRONMENT, f"CNI_NETNS {namespace}: {error.strerror}") from None
    refused = answer.get("error")
    if isinstance(refused, dict):
        code = refused.get("code")
        raise _Failed(code if isinstance(code, int) else 100, str(refused.get("msg")))
    return answer.get("result")


def _print(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")


if __name__ == "__main__":
    sys.exit(main())
