"""The agent's configuration file: what is accepted, and one line for what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config import AgentConfig, ConfigError, PhysicalNetwork, Tls, default_datapath_id, load
from agent.main import main

GOOD = {
    "node": "n1",
    "physical_network": "physnet1:eth1",
    "controller": "tcp:192.0.2.1:6653",
    "api_url": "http://192.0.2.1:8080",
    "api_token": "secret",
}


def loaded(tmp_path: Path, text: str) -> AgentConfig:
    path = tmp_path / "agent.conf"
    path.write_text(text)
    return load(["--config-file", str(path)])


def text(*extra: str, **changes: str) -> str:
    lines = [f"{key} = {value}" for key, value in {**GOOD, **changes}.items() if value]
    return "\n".join(["[agent]", *lines, *extra]) + "\n"


def test_defaults(tmp_path: Path) -> None:
    config = loaded(tmp_path, text())
    assert config.physical_networks == (PhysicalNetwork("physnet1", "eth1"),)
    assert config.datapath_id == default_datapath_id("n1") and int(config.datapath_id, 16)
    assert (config.integration_bridge, config.datapath_type) == ("br-int", "system")
    assert (config.heartbeat_interval, config.inactivity_probe) == (10.0, 10000)
    limits = (config.conntrack_limit, config.snat_share, config.snat_conntrack_limit)
    assert limits == (65536, 16384, 1048576)


@pytest.mark.parametrize("choice", ["host", "host:203.0.113.9"])
def test_the_hosts_own_address(tmp_path: Path, choice: str) -> None:
    config = loaded(tmp_path, text(f"snat_address = physnet1:{choice}"))
    assert config.snat_addresses == (("physnet1", choice),)


def pem_files(directory: Path) -> dict[str, str]:
    """Options; what is in the files nobody reads here."""
    paths = {option: directory / f"{option}.pem" for option in ("certificate", "key", "ca")}
    for path in paths.values():
        path.touch()
    return {option: str(path) for option, path in paths.items()}


def test_with_a_certificate_no_token_is_needed(tmp_path: Path) -> None:
    files = pem_files(tmp_path)
    config = loaded(tmp_path, text(controller="ssl:192.0.2.1:6653", api_url="https://ctl:8080", api_token="", **files))
    assert (config.tls, config.api_token) == (Tls(**files, api_ca=files["ca"]), "")
    other = loaded(tmp_path, text(api_ca=files["key"], **files)).tls
    assert other and (other.ca, other.api_ca) == (files["ca"], files["key"])
    # where one of the controllers is not asked by TLS it is
    mixed = text("api_url = http://192.0.2.2:8080", api_url="https://ctl:8080", api_token="", **files)
    with pytest.raises(ConfigError, match="api_token"):
        loaded(tmp_path, mixed)


def test_files_of_tls_belong_together_and_are_there(tmp_path: Path) -> None:
    files = pem_files(tmp_path)
    for change, complaint in (
        ({"key": ""}, "key is missing"),
        ({"ca": "ca.pem"}, "ca: 'ca.pem' must be an absolute path"),
        ({"certificate": str(tmp_path / "none")}, "No such file"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            loaded(tmp_path, text(**{**files, **change}))


def test_everything(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        text(
            "physical_network = ext",
            "snat_address = ext:203.0.113.11",
            "controller = ssl:[2001:db8::1]:6653",
            "datapath_id = 0000020000000001",
            "datapath_type = netdev",
            "ovsdb = unix:/run/n1/db.sock",
            "[logging]",
            "format = json",
            **pem_files(tmp_path),
        ),
    )
    assert config.physical_networks[1] == PhysicalNetwork("ext", None)
    assert config.snat_addresses == (("ext", "203.0.113.11"),)
    assert config.controllers == ("tcp:192.0.2.1:6653", "ssl:[2001:db8::1]:6653")
    assert config.log_format == "json"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("203.0.113.64-203.0.113.95", "203.0.113.64-203.0.113.95"),
        ("203.0.113.64 - 203.0.113.95", "203.0.113.64-203.0.113.95"),
        ("203.0.113.64/27", "203.0.113.64-203.0.113.95"),
    ],
)
def test_a_pool_of_snat_addresses(tmp_path: Path, written: str, meant: str) -> None:
    config = loaded(tmp_path, text(f"snat_address = physnet1:{written}"))
    assert config.snat_addresses == (("physnet1", meant),)


def test_without_a_word_the_controller_is_on_this_machine(tmp_path: Path) -> None:
    config = loaded(tmp_path, "[agent]\napi_token = secret\n")
    assert (config.controllers, config.api_urls) == (("tcp:127.0.0.1:6653",), ("http://127.0.0.1:8080",))
    assert config.physical_networks == ()


def test_a_directory_of_files(tmp_path: Path) -> None:
    (tmp_path / "agent.conf").write_text(text())
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "10.conf").write_text("[agent]\nnode = n9\nphysical_network = physnet2\n")
    arguments = ["--config-file", str(tmp_path / "agent.conf"), "--config-dir", str(tmp_path / "more")]
    config = load(arguments)
    assert (config.node, [network.name for network in config.physical_networks]) == ("n9", ["physnet1", "physnet2"])
    (tmp_path / "more" / "20.conf").write_text("[agent]\ncolour = blue\n")
    with pytest.raises(ConfigError, match="colour"):
        load(arguments)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (text("colour = blue"), "colour"),
        (text("[agnt]", "a = 1"), "agnt"),
        ("[DEFAULT]\nnode = n1\n" + text(), "DEFAULT"),
        (text(physical_network="name-that-is-too-long:eth1"), "physical_network"),
        (text(physical_network="p:eth/1"), "physical_network"),
        (text("physical_network = physnet1:eth2"), "twice"),
        (text("physical_network = physnet2:eth1"), "twice"),
        (text(physical_network="int:eth1"), "br-int"),
        (text(controller="192.0.2.1:6653"), "controller"),
        (text(controller="tcp:192.0.2.1:66530"), "controller"),
        (text(controller="ssl:192.0.2.1:6653"), "pki node"),
        (text(api_url="192.0.2.1:8080"), "api_url"),
        (text(api_url="http://192.0.2.1:port"), "port"),
        (text(api_token=""), "api_token"),
        (text(api_token="with space"), "api_token"),
        (text("datapath_id = 12"), "datapath_id"),
        (text("datapath_id = 0000000000000000"), "datapath_id"),
        (text("datapath_type = dpdk"), "datapath_type"),
        (text("heartbeat_interval = soon"), "heartbeat_interval"),
        (text("heartbeat_interval = 0"), "heartbeat_interval"),
        (text("heartbeat_interval = nan"), "heartbeat_interval"),
        (text("conntrack_limit = -1"), "conntrack_limit"),
        (text("snat_share = -1"), "snat_share"),
        (text("snat_conntrack_limit = 4294967296"), "snat_conntrack_limit"),
        (text("inactivity_probe = -1"), "inactivity_probe"),
        (text("snat_address = other:203.0.113.1"), "snat_address"),
        (text("snat_address = physnet1:203.0.113"), "snat_address"),
        (text("snat_address = physnet1:"), "snat_address"),
        (text("snat_address = physnet1:203.0.113.9-203.0.113.1"), "203.0.113.9 is behind 203.0.113.1"),
        (text("snat_address = physnet1:203.0.113.1-"), "snat_address"),
        (text("snat_address = physnet1:203.0.113.1/24"), "has host bits set"),
        (text("snat_address = physnet1:203.0.113.0/33"), "snat_address"),
        (text("snat_address = physnet1:223.0.0.0-224.0.0.1"), "not the address of a host"),
        (text("snat_address = physnet1:127.0.0.1"), "not the address of a host"),
        (text("snat_address = physnet1:host:"), "snat_address"),
        (text("snat_address = physnet1:host:224.0.0.1"), "not the address of a host"),
        (text("snat_address = physnet1:host:203.0.113.1-203.0.113.9"), "snat_address"),
        (text("snat_address = physnet1:hosts"), "snat_address"),
        (text("snat_address = physnet1:host", "snat_address = physnet1:203.0.113.2"), "twice"),
        (text("snat_address = physnet1:203.0.113.1", "snat_address = physnet1:203.0.113.2"), "twice"),
        (text("ovsdb = /run/db.sock"), "ovsdb"),
        (text(node="n 1"), "node"),
        ("no section", "agent.conf"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path: Path, content: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, content)
    assert named in str(caught.value) and "\n" not in str(caught.value)


def test_a_bad_file_ends_the_program_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "agent.conf"
    path.write_text(text("colour = blue"))
    assert main(["--config-file", str(path)]) == 2
    assert main(["--config-file", str(tmp_path / "none")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(line.startswith("trunkline-agent: ") for line in lines)
