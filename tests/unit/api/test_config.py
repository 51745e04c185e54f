from __future__ import annotations

import re
from pathlib import Path

import pytest
from oslo_config import cfg

from controller import config
from controller.api.auth import Identity, Role
from controller.dns.domain import wire
from controller.dns.upstreams import Servers, Upstream
from controller.options import GROUPS
from controller.tls_settings import TlsSettings

SAMPLE = Path(__file__).parents[3] / "etc" / "trunkline-controller.conf.sample"


def load(tmp_path: Path, text: str) -> config.ControllerConfig:
    file = tmp_path / "controller.conf"
    file.write_text(text)
    return config.load(["--config-file", str(file)], cfg.ConfigOpts())


def test_everything_set(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        """
[database]
url = sqlite:////tmp/x.db
[api]
listen = 192.0.2.1
port = 8081
plain_tcp = true
[openflow]
listen = ::1
port = 6654
[auth]
token = admin:s3cret
token = member:t0ken:project-a
[dhcp]
lease_time = 600
[gateway]
release_delay = 0
[nat]
drop_private = true
[dns]
server = 192.0.2.53#5353
server = /corp.example/192.0.2.54
ttl = 5
[vlan]
range = 200:300
[quota]
networks = 7
[project_networks]
physical_network = physnet2
[logging]
format = json
level = DEBUG
""",
    )
    assert loaded.database_url == "sqlite:////tmp/x.db"
    assert (loaded.api_listen, loaded.api_port) == ("192.0.2.1", 8081)
    assert (loaded.openflow_listen, loaded.openflow_port) == ("::1", 6654)
    assert [credential.identity for credential in loaded.credentials] == [
        Identity(Role.ADMIN),
        Identity(Role.MEMBER, "project-a"),
    ]
    assert loaded.drop_private
    assert (loaded.lease_time, loaded.gateway_release_delay, loaded.vlan_range) == (600, 0, (200, 300))
    assert (loaded.limits.networks, loaded.project_physical_network) == (7, "physnet2")
    servers = Servers((Upstream("192.0.2.53", 5353),), {wire("corp.example"): (Upstream("192.0.2.54"),)})
    assert (loaded.dns.servers, loaded.dns.ttl) == (servers, 5)
    assert (loaded.log_format, loaded.log_level) == ("json", "DEBUG")
    assert "s3cret" not in repr(loaded)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[api]\nport = many\n", "port"),
        ("[api]\nport = 0\n", "port"),
        ("[api]\nport = 65536\n", "port"),
        ("[api]\nlisten = a b\n", "listen"),
        ("[api]\nlisten = 192.0.2.1\n", "[api] listen is 192.0.2.1, which others can reach"),
        ("[openflow]\nlisten = ::\n", "plain_tcp"),
        ("[openflow]\nlisten = ctl.example\n[api]\nplain_tcp = true\n", "[openflow] listen"),
        ("[tls]\ncertificate = /c\nkey = /k\n", "[tls] needs certificate, key and ca"),
        ("[tls]\ncrl = /crl\n", "[tls] needs"),
        ("[api]\nrequire_client_certificate = true\n", "[tls] needs"),
        ("[api]\ncertificate = /c\n", "[api] certificate and key"),
        ("[api]\nprot = 8080\n", "unknown option prot in section [api]"),
        ("[apis]\nport = 8080\n", "unknown section [apis]"),
        ("[DEFAULT]\nverbos = true\n", "unknown option verbos"),
        ("[database]\nurl = trunkline.db\n", "[database] url"),
        ("[auth]\ntoken = admin:s3cret\ntoken = root:t0ken\n", "[auth] token number 2"),
        ("[dhcp]\nlease_time = 1h\n", "lease_time"),
        ("[dhcp]\nlease_time = 0\n", "lease_time"),
        ("[gateway]\nrelease_delay = -1\n", "release_delay"),
        ("[metadata]\nnova_url = nova:8775\n", "nova_url"),
        ("[metadata]\nnova_url = http://192.0.2.1:8775\n", "shared_secret"),
        ("[metadata]\nvendor_data = /nonexistent.json\n", "/nonexistent.json"),
        ("[metadata]\nrate = 0\n", "rate"),
        ("[dns]\nserver = ns.example\n", "[dns] server: "),
        ("[vlan]\nrange = 4000:100\n", "[vlan] range"),
        ("[auth]\ntoken = admin:sha256=t0ken\n", "[auth] token number 1"),
        ("[api]\nburst = 0\n", "burst"),
        ("[api]\nrate = -1\n", "rate"),
        ("[audit]\ndays = 6\n", "[audit] days"),
        ("[vlan]\nrange = 1:4095\n", "[vlan] range"),
        ("[vlan]\nrange = 100-200\n", "[vlan] range"),
        ("[logging]\nformat = xml\n", "format"),
        ("[logging]\nlevel = LOUD\n", "level"),
        ("port = 8080\n", "controller.conf"),
        ("[api\n", "controller.conf"),
    ],
)
def test_mistake_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    with pytest.raises(SystemExit) as exit_:
        load(tmp_path, text)
    assert exit_.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("trunkline-controller: ") and message.count("\n") == 1
    assert says in message
    assert "t0ken" not in message


def test_metadata(tmp_path: Path) -> None:
    vendor_data = tmp_path / "vendor.json"
    vendor_data.write_text('{"cloud-init": "#cloud-config"}')
    text = f"[metadata]\nvendor_data = {vendor_data}\nnova_url = https://nova.example:8775/\nshared_secret = t0ken\n"
    loaded = load(tmp_path, text)
    assert loaded.metadata.defaults.vendor_data == {"cloud-init": "#cloud-config"}
    assert loaded.metadata.nova is not None
    assert (loaded.metadata.nova.url, loaded.metadata.nova.secret) == ("https://nova.example:8775/", "t0ken")
    assert "t0ken" not in repr(loaded)
    vendor_data.write_text("[]")
    with pytest.raises(SystemExit):
        load(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    ["cluster]\nlease = nan", "cluster]\nlease = inf", "gateway]\nrelease_delay = 1" + "0" * 30]
    + ["addresses]\ndisassociate_timeout = 1" + "0" * 20, "quota]\nports = 1" + "0" * 20],
)
def test_numbers_that_fit_nowhere(tmp_path: Path, text: str) -> None:
    with pytest.raises(SystemExit):
        load(tmp_path, f"[{text}\n")


@pytest.mark.parametrize(
    "url", ["notaurl", "mysql://127.0.0.1/x", "postgresql://u:secret@[::1/x", "postgresql://u:secret@h:x/x"]
)
def test_urls_of_no_database(tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load(tmp_path, f"[database]\nurl = {url}\n")
    said = capsys.readouterr().err
    assert "[database] url must be" in said and "secret" not in said


def test_missing_file(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        config.load(["--config-file", "/nonexistent.conf"], cfg.ConfigOpts())
    assert exit_.value.code == 2
    assert "/nonexistent.conf" in capsys.readouterr().err


def test_sample_shows_every_option_with_its_default(tmp_path: Path) -> None:
    text = SAMPLE.read_text()
    shown = {}
    section = ""
    for line in text.splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", line):
            section = header[1]
        elif option := re.fullmatch(r"#(\w+) =(?: (.*))?", line):
            shown[section, option[1]] = option[2] or ""
    expected = {(group, option.dest): str(option.default) for group, options in GROUPS.items() for option in options}
    # those that may be given several times have no default to show
    several = {
        (group, option.dest)
        for group, options in GROUPS.items()
        for option in options
        if isinstance(option, cfg.MultiStrOpt)
    }
    assert shown.keys() >= several
    assert {name: value for name, value in shown.items() if name not in several} == {
        name: value for name, value in expected.items() if name not in several
    }
    load(tmp_path, text)
    load(tmp_path, re.sub(r"^#(?=\w+ =)", "", text, flags=re.MULTILINE))


def test_help_shows_our_options_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        config.load(["--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert set(re.findall(r"--[a-z-]+", text)) == {"--help", "--config-file", "--config-dir", "--version"}
    assert str(config.DEFAULT_FILE) in text and SAMPLE.name in text


def test_options_of_ryu_are_not_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        config.load(["--ofp-tcp-listen-port", "6633"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "trunkline-controller: unrecognized arguments: --ofp-tcp-listen-port 6633 (see --help)\n"
    )


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        config.load(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out.startswith("trunkline-controller ")


TRANSFER = "[dns]\ntransfer_listen = 192.0.2.1\ntransfer_name_server = ns1.example.net\n"
KEY = "transfer_key = k:hmac-sha256:c2l4dGVlbiBieXRlcyBvciBtb3Jl\n"


def test_zones_are_handed_to_nobody_by_default(tmp_path: Path) -> None:
    assert load(tmp_path, "").zone_transfer is None


def test_to_whom_zones_are_handed(tmp_path: Path) -> None:
    more = "transfer_secondary = 192.0.2.53\ntransfer_secondary = [2001:db8::53]:5353 K.\n"
    more += "transfer_secondary = 2001:db8::54 k\ntransfer_hostmaster = dns@example.net\n"
    made = load(tmp_path, TRANSFER + KEY + more).zone_transfer
    assert made is not None
    assert [(str(one.address), one.port, one.key is not None) for one in made.secondaries] == [
        ("192.0.2.53", 53, False),
        ("2001:db8::53", 5353, True),
        ("2001:db8::54", 53, True),
    ]
    assert (made.name_servers, made.hostmaster) == (("ns1.example.net",), "dns.example.net")
    assert made.secondary("::ffff:192.0.2.53") is made.secondaries[0]
    assert made.secondary("192.0.2.54") is made.secondary("nobody") is None
    assert "c2l4" not in repr(made)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[dns]\ntransfer_listen = 192.0.2.1\n", "transfer_name_server"),
        ("[dns]\ntransfer_listen = here\ntransfer_name_server = ns1.example.net\n", "transfer_listen"),
        (TRANSFER + "transfer_name_server = a..b\n", "transfer_name_server"),
        (TRANSFER + "transfer_secondary = host.example\n", "transfer_secondary"),
        (TRANSFER + "transfer_secondary = 192.0.2.53:0\n", "transfer_secondary"),
        (TRANSFER + "transfer_secondary = 192.0.2.53 other\n" + KEY, "transfer_secondary"),
        (TRANSFER + "transfer_secondary = 192.0.2.53\ntransfer_secondary = 192.0.2.53:54\n", "transfer_secondary"),
        (TRANSFER + "transfer_key = k:hmac-md5:c2l4dGVlbiBieXRlcyBvciBtb3Jl\n", "transfer_key"),
        (TRANSFER + "transfer_key = k:hmac-sha256:secret!\n", "transfer_key"),
        (TRANSFER + "transfer_key = k:hmac-sha256:c2hvcnQ=\n", "transfer_key"),
        (TRANSFER + "transfer_hostmaster = a.b@example.net\n", "transfer_hostmaster"),
        (TRANSFER + "transfer_catalog = a..b\n", "transfer_catalog"),
    ],
)
def test_what_is_wrong_about_handing_out_zones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, names: str
) -> None:
    with pytest.raises(SystemExit):
        load(tmp_path, text)
    said = capsys.readouterr().err
    assert f"[dns] {names}: " in said and "c2l4" not in said


def test_a_directory_of_files(tmp_path: Path) -> None:
    (tmp_path / "10.conf").write_text("[api]\nport = 8081\n")
    assert config.load(["--config-dir", str(tmp_path)], cfg.ConfigOpts()).api_port == 8081
    (tmp_path / "20.conf").write_text("[auth]\ntoken = admin:s3cret\n")
    (tmp_path / "30.conf").write_text("[auth]\ntoken = reader:t0ken\n")
    assert len(config.load(["--config-dir", str(tmp_path)], cfg.ConfigOpts()).credentials) == 2
    (tmp_path / "40.conf").write_text("[api]\nprot = 8082\n")
    with pytest.raises(SystemExit):
        config.load(["--config-dir", str(tmp_path)], cfg.ConfigOpts())


TLS = "[tls]\ncertificate = /t/c.pem\nkey = /t/k.pem\nca = /t/ca.pem\n"


def test_threat_23_with_tls_any_address_may_be_listened_on(tmp_path: Path) -> None:
    loaded = load(tmp_path, TLS + "crl = /t/crl.pem\n[api]\nlisten = 0.0.0.0\n[openflow]\nlisten = 0.0.0.0\n")
    files = Path("/t/c.pem"), Path("/t/k.pem"), Path("/t/ca.pem"), Path("/t/crl.pem")
    assert loaded.openflow_tls == TlsSettings(*files, demand=True)
    assert loaded.api_tls == TlsSettings(*files, demand=False)


def test_the_api_may_have_a_certificate_of_its_own(tmp_path: Path) -> None:
    own = "[api]\ncertificate = /public.pem\nkey = /public-key.pem\nrequire_client_certificate = true\n"
    loaded = load(tmp_path, TLS + own)
    assert loaded.api_tls == TlsSettings(Path("/public.pem"), Path("/public-key.pem"), Path("/t/ca.pem"))
    assert loaded.openflow_tls == TlsSettings(Path("/t/c.pem"), Path("/t/k.pem"), Path("/t/ca.pem"))


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_on_the_loopback_plain_tcp_is_no_secret(tmp_path: Path, address: str) -> None:
    loaded = load(tmp_path, f"[api]\nlisten = {address}\n[openflow]\nlisten = {address}\n")
    assert loaded.openflow_tls is None and loaded.api_tls is None
