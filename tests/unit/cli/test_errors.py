"""One clear line on stderr and the right exit code, whatever happens."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from controller.cli.errors import CliError
from controller.cli.session import load_settings
from controller.client import ApiError, Client, Tls, Unconfirmed, Unreachable
from tests.unit.cli.stub import NETWORK_ID, PORT_ID, Request, Stub, network, port, refusal

CREATE = ("network", "create", "blue", "--cidr", "10.0.1.0/24", "--physical-network", "physnet1", "--flat")


def test_refusal_says_all_the_server_said(stub: Stub, run: Any) -> None:
    stub.response_headers["X-Request-Id"] = "r-77"
    stub.on("POST /v1/networks", (409, refusal("cidr_overlap", "overlaps network red", "subnets.0.cidr")))
    result = run(*CREATE)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == ("trunkline: overlaps network red (409 cidr_overlap, field subnets.0.cidr, request r-77)\n")


def test_message_with_line_breaks_stays_one_line(stub: Stub, run: Any) -> None:
    stub.on("POST /v1/networks", (400, refusal("bad", "one\ntwo\x1b[31m")))
    assert run(*CREATE).stderr == "trunkline: one\\ntwo\\x1b[31m (400 bad)\n"


@pytest.mark.parametrize("body", ["<html>Bad gateway</html>", "[]", '{"error": "text"}', ""])
def test_another_server_answers(stub: Stub, run: Any, body: str) -> None:
    stub.on("POST /v1/networks", (502, body))
    result = run(*CREATE)
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert "502" in result.stderr


@pytest.mark.parametrize("body", ["<html></html>", "[]", "{}", '{"networks": {}}'])
def test_success_of_another_server(stub: Stub, run: Any, body: str) -> None:
    stub.on("GET /v1/networks", (200, body))
    result = run("network", "list")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)


def test_redirects_are_not_followed_with_the_token(stub: Stub, run: Any) -> None:
    stub.response_headers["Location"] = stub.url + "/v1/nodes"
    stub.on("GET /v1/networks", (302, {}))
    assert run("network", "list").exit_code == 1
    assert len(stub.requests) == 1


def test_nobody_listens(run: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        result = run("--url", url, "network", "list")
    assert (result.exit_code, result.stderr) == (3, f"trunkline: no answer from {url}: Connection refused\n")


def test_silence(run: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = Client(f"http://127.0.0.1:{server.getsockname()[1]}", "t", read_timeout=0.05)
        with pytest.raises(Unreachable, match="no answer in time"):
            client.list_networks()


@pytest.mark.parametrize("arguments", [["--foo"], ["netwrk"], ["network", "list", "-o", "xml"], ["port", "create"]])
def test_usage(stub: Stub, run: Any, arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "--help" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["network"]])
def test_no_command_shows_the_help(run: Any, arguments: list[str]) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Commands:" in result.stderr


def test_help_documents_the_exit_codes(run: Any) -> None:
    text = run("--help").stdout
    assert all(f"\n    {code}  " in text for code in range(5))
    assert "--install-completion" in text


# --wait


def test_wait_asks_for_the_revision_that_was_written(stub: Stub, run: Any) -> None:
    stub.on("POST /v1/networks", (201, {"network": network(), "revision": 12}))
    stub.on("GET /v1/revisions/12", (200, {"revision": 12, "confirmed": True, "missing": []}))
    assert run(*CREATE, "--wait", "--timeout", "7", "-o", "json").exit_code == 0
    assert [(request.method, request.path) for request in stub.requests] == [
        ("POST", "/v1/networks"),
        ("GET", "/v1/revisions/12"),
        ("GET", f"/v1/networks/{NETWORK_ID}"),
    ]
    assert 6 < float(stub.requests[1].query["wait"]) <= 7


def test_after_the_wait_the_object_is_shown_as_it_is_then(stub: Stub, run: Any) -> None:
    stub.on(f"PATCH /v1/ports/{PORT_ID}", (200, {"port": port(status="bound"), "revision": 12}))
    stub.on("GET /v1/revisions/12", (200, {"revision": 12, "confirmed": True, "missing": []}))
    command = ("port", "set", PORT_ID, "--hostname", "vm", "-o", "json")
    assert json.loads(run(*command).stdout)["status"] == "bound"
    stub.on(f"GET /v1/ports/{PORT_ID}", (200, {"port": port(status="active")}))
    shown = json.loads(run(*command, "--wait").stdout)
    assert (shown["status"], shown["revision"]) == ("active", 12)
    stub.on(f"GET /v1/ports/{PORT_ID}", (404, refusal("port_unknown", "there is no port")))
    assert json.loads(run(*command, "--wait").stdout)["status"] == "bound"


def test_no_wait_by_default(stub: Stub, run: Any) -> None:
    stub.on("POST /v1/networks", (201, {"network": network(), "revision": 12}))
    assert run(*CREATE).exit_code == 0
    assert len(stub.requests) == 1


def test_wait_timed_out_names_the_nodes_and_still_prints_the_object(stub: Stub, run: Any) -> None:
    stub.on("POST /v1/networks", (201, {"network": network(), "revision": 12}))
    stub.on("GET /v1/revisions/12", (504, refusal("revision_unconfirmed", "not yet", missing=["n2", "n3"])))
    result = run(*CREATE, "--wait", "--timeout", "0", "-o", "json")
    assert result.exit_code == 4
    assert json.loads(result.stdout)["id"] == NETWORK_ID
    assert result.stderr == ("trunkline: written, but revision 12 is not confirmed yet; missing nodes: n2, n3\n")


def test_deletes_wait_for_the_last_revision(stub: Stub, run: Any) -> None:
    for revision, node in ((30, "n1"), (31, "n2")):
        stub.on(f"DELETE /v1/nodes/{node}", (200, {"node": {}, "revision": revision}))
    stub.on("GET /v1/revisions/31", (200, {"revision": 31, "confirmed": True, "missing": []}))
    assert run("node", "delete", "n1", "n2", "--wait").exit_code == 0


def test_long_waits_are_asked_for_in_pieces(stub: Stub) -> None:
    times = iter([0.0, 0.0, 61.0, 61.0, 122.0])

    def reply(request: Request) -> tuple[int, Any]:
        return 504, refusal("revision_unconfirmed", "not yet", missing=["n2"])

    stub.on("GET /v1/revisions/9", reply)
    with pytest.raises(Unconfirmed) as caught:
        Client(stub.url, "t").wait_revision(9, 100, clock=lambda: next(times))
    assert caught.value.missing == ("n2",)
    assert [request.query["wait"] for request in stub.requests] == ["60", "39"]


def test_wait_passes_other_refusals_on(stub: Stub) -> None:
    stub.on("GET /v1/revisions/9", (401, refusal("unauthorized", "no")))
    with pytest.raises(ApiError):
        Client(stub.url, "t").wait_revision(9, 5)


# address and token


def test_options_win_over_environment_over_files(tmp_path: Path) -> None:
    mine, system = tmp_path / "mine.yaml", tmp_path / "system.yaml"
    mine.write_text("token: from-mine\n")
    system.write_text("url: http://system:1\ntoken: from-system\n")
    files = (mine, tmp_path / "missing.yaml", system)
    environment = {"TRUNKLINE_URL": "http://env:1"}
    settings = load_settings({}, {}, files)
    assert (settings.url, settings.token) == ("http://system:1", "from-mine")
    settings = load_settings({}, environment, files)
    assert (settings.url, settings.token) == ("http://env:1", "from-mine")
    settings = load_settings({"url": "https://option:1", "token": "t"}, environment, files)
    assert (settings.url, settings.token) == ("https://option:1", "t")
    assert load_settings({"token": "t"}, {}, ()).url == "http://127.0.0.1:8080"


def test_a_certificate_is_enough_by_https(tmp_path: Path) -> None:
    """A node's own: the server knows whose it is."""
    file = tmp_path / "cli.yaml"
    file.write_text("url: https://ctl:8080\nca: ca.pem\ncertificate: c.pem\nkey: k.pem\n")
    settings = load_settings({}, {}, (file,))
    assert (settings.token, settings.tls) == ("", Tls("ca.pem", "c.pem", "k.pem"))
    assert load_settings({"token": "t"}, {}, (file,)).token == "t"
    with pytest.raises(CliError, match="no token"):
        load_settings({"url": "http://ctl:8080"}, {}, (file,))
    file.write_text("url: https://ctl:8080\nca: ca.pem\n")
    with pytest.raises(CliError, match="no token"):
        load_settings({}, {}, (file,))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("token: [", "is not YAML"),
        ("- token", "may hold"),
        ("tokn: x", "may hold"),
        ("", "no token"),
        ("token: 'a b'", "blank"),
        ("token: x\nurl: ctl:8080", "no http"),
    ],
)
def test_bad_settings_are_usage_errors(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, complaint: str
) -> None:
    monkeypatch.delenv("TRUNKLINE_URL")
    monkeypatch.delenv("TRUNKLINE_TOKEN")
    file = tmp_path / ".config/trunkline/cli.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    result = run("network", "list")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert complaint in result.stderr


def test_warnings_are_on_stderr_alone(stub: Stub, run: Any) -> None:
    """Also where a name would be a command to the terminal."""
    warned = {"network": network(), "warnings": ["no node has it\x1b[2J", "and another"], "revision": 7}
    stub.on("POST /v1/networks", (201, warned))
    for output in ("table", "json", "yaml"):
        result = run(*CREATE, "-o", output)
        assert result.exit_code == 0
        assert result.stderr.splitlines() == [
            "trunkline: warning: no node has it\\x1b[2J",
            "trunkline: warning: and another",
        ]
        assert "no node has it" not in result.stdout
    assert json.loads(run(*CREATE, "-o", "json").stdout) == {**network(), "revision": 7}
