"""A caller of CNI plugins that follows the text of the specification, 1.1.0, and takes nothing else."""

from __future__ import annotations

import json
import os
import subprocess
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from tests.programs import write_program

Object = dict[str, Any]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Interface(_Strict):
    name: str
    mac: str = ""
    mtu: int = 0
    sandbox: str = ""
    socketPath: str = ""
    pciID: str = ""


class _Ip(_Strict):
    address: str
    gateway: str | None = None
    interface: int | None = None

    @field_validator("address")
    @classmethod
    def _has_prefix(cls, value: str) -> str:
        assert "/" in value and ip_interface(value)
        return value


class _Route(_Strict):
    dst: str
    gw: str | None = None
    mtu: int = 0
    advmss: int = 0
    priority: int | None = None
    table: int | None = None
    scope: int | None = None

    @field_validator("dst")
    @classmethod
    def _is_network(cls, value: str) -> str:
        assert ip_network(value)
        return value


class _Dns(_Strict):
    nameservers: list[str] = []
    domain: str = ""
    search: list[str] = []
    options: list[str] = []

    @field_validator("nameservers")
    @classmethod
    def _are_addresses(cls, value: list[str]) -> list[str]:
        assert all(ip_address(each) for each in value)
        return value


class Result(_Strict):
    """ "Success" of an ADD."""

    cniVersion: str
    interfaces: list[_Interface]
    ips: list[_Ip] = []
    routes: list[_Route] = []
    dns: _Dns = _Dns()

    @model_validator(mode="after")
    def _indices(self) -> Result:
        assert all(ip.interface is None or 0 <= ip.interface < len(self.interfaces) for ip in self.ips)
        return self


class _Error(_Strict):
    cniVersion: str
    code: int
    msg: str
    details: str = ""


class _Versions(_Strict):
    cniVersion: str
    supportedVersions: list[str]


class CniError(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class Runtime:
    """One network, as libcni would run it: it keeps results, and gives them back as `prevResult`."""

    def __init__(self, directory: Path, conf: Object) -> None:
        self.conf = conf
        self.results: dict[tuple[str, str], Object] = {}
        directory.mkdir(parents=True, exist_ok=True)
        self.plugin = directory / "trunkline-cni"
        write_program(self.plugin)

    def version(self) -> list[str]:
        said = self._run("VERSION", {}, {"cniVersion": self.conf["cniVersion"]})
        return _Versions.model_validate(said).supportedVersions

    def add(self, container: str, netns: str, ifname: str = "eth0", **more: Any) -> Result:
        said = self._run("ADD", self._environment(container, netns, ifname), {**self.conf, **more})
        assert said is not None
        self.results[container, ifname] = said
        result = Result.model_validate(said)
        assert result.cniVersion == self.conf["cniVersion"]
        assert any(each.sandbox == netns and each.name == ifname for each in result.interfaces)
        return result

    def check(self, container: str, netns: str, ifname: str = "eth0") -> None:
        conf = {**self.conf, "prevResult": self.results[container, ifname]}
        assert self._run("CHECK", self._environment(container, netns, ifname), conf) is None

    def delete(self, container: str, netns: str | None, ifname: str = "eth0", *, known: bool = True) -> None:
        previous = self.results.get((container, ifname)) if known else None
        conf = {**self.conf, **({"prevResult": previous} if previous else {})}
        assert self._run("DEL", self._environment(container, netns, ifname), conf) is None
        self.results.pop((container, ifname), None)

    def collect(self) -> None:
        """Valid is what has a result."""
        valid = [{"containerID": container, "ifname": ifname} for container, ifname in self.results]
        assert self._run("GC", {}, {**self.conf, "cni.dev/valid-attachments": valid}) is None

    def status(self) -> None:
        assert self._run("STATUS", {}, self.conf) is None

    @staticmethod
    def _environment(container: str, netns: str | None, ifname: str) -> dict[str, str]:
        named = {"CNI_CONTAINERID": container, "CNI_IFNAME": ifname, "CNI_ARGS": f"K8S_POD_NAME={container}"}
        return named if netns is None else {**named, "CNI_NETNS": netns}

    def _run(self, command: str, environment: dict[str, str], conf: Object) -> Object | None:
        """Raises CniError for an error that the specification allows."""
        asked = {"CNI_COMMAND": command, "CNI_PATH": str(self.plugin.parent), "PATH": os.environ["PATH"]}
        done = subprocess.run(
            [str(self.plugin)],
            input=json.dumps(conf),
            env=asked | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not done.stderr, done.stderr
        said = json.loads(done.stdout) if done.stdout else None
        if done.returncode:
            error = _Error.model_validate(said)
            assert error.code > 0
            raise CniError(error.code, error.msg)
        return said
