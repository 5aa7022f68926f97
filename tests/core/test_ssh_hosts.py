"""What OpenSSH says of a host of the user's own, as values; from what ssh and ssh-keygen print."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from colabdev.core.ssh_hosts import (
    Destination,
    KnownKeys,
    LocalSsh,
    OwnHost,
    join_known_keys,
    parse_destination,
    parse_known_keys,
    parse_own_host,
    to_type,
)
from colabdev.errors import ColabdevError, UsageError
from tests.support.records import HOST_KEY

OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3S0LwlUZmlQW3fFa8Jw6Tqf7bqgmVSJ0cJtJ2UeKxK"


@pytest.mark.parametrize(
    ("text", "destination"),
    [
        ("gpu", Destination("gpu")),
        ("me@gpu", Destination("gpu", "me")),
        ("me@gpu.example.com:2222", Destination("gpu.example.com", "me", 2222)),
        ("gpu:22", Destination("gpu", None, 22)),
        ("me@corp@gpu", Destination("gpu", "me@corp")),
        ("me@10.0.0.1", Destination("10.0.0.1", "me")),
        ("me@::1", Destination("::1", "me")),
        ("[::1]", Destination("::1")),
        ("me@[fe80::1%eth0]:2222", Destination("fe80::1%eth0", "me", 2222)),
        ("ssh://me@gpu:2222", Destination("gpu", "me", 2222)),
        ("ssh://gpu/", Destination("gpu")),
    ],
)
def test_destination_is_taken_apart(text: str, destination: Destination) -> None:
    assert parse_destination(text) == destination


NO_HOSTS = r"""
    @ me@ @gpu -oProxyCommand=x me@-x -l@gpu a:b a:0 a:65536 a: [::1 [::1]x ssh:// a\b
    $(id) `id` a;id a|id a&id a>b a'b a"b $(id)@gpu
"""


@pytest.mark.parametrize("text", ["", "a b", "a\nb", *NO_HOSTS.split()], ids=ascii)
def test_what_no_host_can_be_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="cannot use"):
        parse_destination(text)


def resolve(
    directory: Path, config: str, text: str = "gpu", options: Sequence[str] = ()
) -> OwnHost:
    """What is made of the real ssh's word."""
    file = directory / "config"
    file.write_text(config)
    argv = ["ssh", "-F", str(file), "-G", *parse_destination(text).ssh_arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=True)
    ssh = LocalSsh(
        options=options,
        join=shlex.join,
        user="me",
        uid="1000",
        home="/home/me",
        hostname="laptop.lan",
        environment={"KEYS": "/keys"},
    )
    return parse_own_host(text, done.stdout, ssh)


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("gpu", "gpu"),
        ("me@gpu", "me@gpu"),
        ("me@gpu:2222", "-p 2222 me@gpu"),
        ("ssh://me@gpu:2222/", "-p 2222 me@gpu"),
        ("[::1]:2222", "-p 2222 ::1"),
        (r"LAB\me@gpu", r"'LAB\me@gpu'"),
    ],
)
def test_host_is_named_in_hints_as_ssh_takes_it(text: str, typed: str) -> None:
    assert to_type(text) == typed
    # What ssh makes of it is what we make of it: a host of that name, not of one with a colon.
    argv = ["ssh", "-G", "-F", "none", *shlex.split(typed)]
    options = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split("\n")
    assert f"hostname {parse_destination(text).host}" in options


def test_host_without_configuration_is_where_its_name_says(tmp_path: Path) -> None:
    host = resolve(tmp_path, "", "you@GPU.example.com:2222")
    assert (host.hostname, host.port, host.user) == ("gpu.example.com", 2222, "you")
    assert host.known_as == ["[gpu.example.com]:2222", "gpu.example.com"]
    assert "/home/me/.ssh/id_ed25519" in host.login.identity_files
    assert not host.login.identities_only
    assert host.login.identity_agent == "SSH_AUTH_SOCK"
    assert host.login.proxy_command is None
    assert "/etc/ssh/ssh_known_hosts" in host.known_hosts


def test_host_of_the_configuration_is_resolved(tmp_path: Path) -> None:
    config = """
Host gpu
  HostName %h.example.com
  User you
  HostKeyAlias the-gpu
  IdentitiesOnly yes
  IdentityFile ~/.ssh/id_%h_%r_%p_%n_%k_%u_%i_%L_%l_%%
  IdentityFile %d/x
  IdentityFile "/with space/id"
  IdentityFile ${KEYS}/id
  IdentityFile none
  IdentityAgent "/run/my agent"
  CertificateFile ~/.ssh/cert
  UserKnownHostsFile "/a b/known" /c
  GlobalKnownHostsFile none
"""
    host = resolve(tmp_path, config)
    assert (host.hostname, host.port, host.user) == ("gpu.example.com", 22, "you")
    assert host.known_as == ["the-gpu"]
    assert host.known_hosts == ["/a b/known", "/c"]
    assert host.login.identity_files == (
        "/home/me/.ssh/id_gpu.example.com_you_22_gpu_the-gpu_me_1000_laptop_laptop.lan_%",
        "/home/me/x",
        "/with space/id",
        "/keys/id",
    )
    assert host.login.identities_only
    assert host.login.identity_agent == "/run/my agent"
    assert host.login.unused == ("CertificateFile",)


def test_proxy_command_has_nothing_left_to_expand(tmp_path: Path) -> None:
    config = "Host gpu\n HostName g\n ProxyCommand nc -X 5 -x p:1 %h %p '%r' %n 100%%\n"
    host = resolve(tmp_path, config, "you@gpu:99")
    assert host.login.proxy_command == "nc -X 5 -x p:1 g 99 'you' gpu 100%"


@pytest.mark.parametrize(
    ("jump", "command"),
    [
        ("j1", "ssh -F conf -oBatchMode=yes -W '[g]:22' -- j1"),
        ("me@j1:2222", "ssh -F conf -oBatchMode=yes -W '[g]:22' -l me -p 2222 -- j1"),
        ("j1,me@j2,j3", "ssh -F conf -J j1,me@j2 -oBatchMode=yes -W '[g]:22' -- j3"),
        ("%r@j-%n", "ssh -F conf -oBatchMode=yes -W '[g]:22' -l you -- j-gpu"),
        ("[::1]:22", "ssh -F conf -oBatchMode=yes -W '[g]:22' -p 22 -- ::1"),
    ],
)
def test_proxy_jump_becomes_the_command_that_ssh_makes_of_it(
    tmp_path: Path, jump: str, command: str
) -> None:
    config = f"Host gpu\n HostName g\n User you\n ProxyJump {jump}\n"
    host = resolve(tmp_path, config, options=["-F", "conf"])
    assert host.login.proxy_command == command


def test_no_proxy_is_none(tmp_path: Path) -> None:
    config = "Host gpu\n ProxyCommand none\n ProxyJump none\nHost *\n ProxyJump x\n"
    assert resolve(tmp_path, config).login.proxy_command is None


@pytest.mark.parametrize("option", ["ProxyUseFdpass yes", "RevokedHostKeys /etc/revoked"])
def test_option_that_only_ssh_understands_and_that_matters_is_refused(
    tmp_path: Path, option: str
) -> None:
    with pytest.raises(ColabdevError, match=f"sets {option.partition(' ')[0]}"):
        resolve(tmp_path, f"Host gpu\n {option}\n")


KNOWN = f"""
gpu.example.com,10.0.0.1 {HOST_KEY} a comment
[gpu.example.com]:2222 {OTHER_KEY}
*.wild,!not.wild {HOST_KEY}
@cert-authority *.signed {HOST_KEY}
both.signed {OTHER_KEY}
bad.example.com {HOST_KEY}
@revoked bad.example.com {HOST_KEY}
"""


@pytest.mark.parametrize("hashed", [False, True])
@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("gpu.example.com", KnownKeys((HOST_KEY,))),
        ("10.0.0.1", KnownKeys((HOST_KEY,))),
        ("[gpu.example.com]:2222", KnownKeys((OTHER_KEY,))),
        ("nobody", KnownKeys()),
        ("a.wild", KnownKeys((HOST_KEY,))),
        ("not.wild", KnownKeys()),
        ("a.signed", KnownKeys(has_authority=True)),
        ("both.signed", KnownKeys((OTHER_KEY,), has_authority=True)),
        ("bad.example.com", KnownKeys((HOST_KEY,), revoked=frozenset([HOST_KEY]))),
    ],
)
def test_known_hosts_says_what_ssh_keygen_finds(
    tmp_path: Path, name: str, known: KnownKeys, hashed: bool
) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(KNOWN)
    if hashed:
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], capture_output=True, check=True)
        assert "gpu.example.com" not in file.read_text()
    argv = ["ssh-keygen", "-F", name, "-f", str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert parse_known_keys(done.stdout) == known


def test_key_that_any_file_revokes_is_trusted_by_none() -> None:
    found = [KnownKeys((HOST_KEY, OTHER_KEY)), KnownKeys(revoked=frozenset([HOST_KEY]))]
    assert join_known_keys(found) == KnownKeys((OTHER_KEY,), frozenset([HOST_KEY]))


def test_line_whose_key_is_mangled_is_passed_over() -> None:
    """ssh-keygen prints it, though ssh does not use it."""
    kind, key = HOST_KEY.split()
    lines = [f"h {kind} {key[:-7]}!", f"h ssh-rsa {key}", "h 1024 35", f"h {HOST_KEY}"]
    assert parse_known_keys("".join(f"{line}\n" for line in lines)) == KnownKeys((HOST_KEY,))
