"""A host of the user's own, as OpenSSH knows it: what `ssh -G` and `ssh-keygen -F` say, as values.

Verified with OpenSSH 9.2. `ssh -G` has expanded `~` and tokens in UserKnownHostsFile and IdentityAgent,
and left them as they are in IdentityFile, CertificateFile and ProxyCommand.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from colabdev.core.private_keys import key_kind, parse_public_line
from colabdev.core.ssh_config import parse_options
from colabdev.errors import ColabdevError, UsageError
from colabdev.models import UserLogin

_URI = "ssh://"
_HOST = re.compile(r"(?!-)[^\s'\"`$\\;&<>|(){}\x00-\x1f\x7f@/]+")
_USER = re.compile(r"(?!-)[^\s'\"`$;&<>|(){}\x00-\x1f\x7f]+")
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_TOKEN = re.compile("%(.)", re.DOTALL)
_DEFAULT_PORT = 22
_NOT_A_PROXY = ("", "none")
_OPENSSH_ALONE = {"ProxyUseFdpass": "no", "RevokedHostKeys": "none"}
"""Options without which the host would be reached, or trusted, otherwise; and their defaults."""


@dataclass(frozen=True, slots=True)
class Destination:
    """What stands behind `--host`, taken apart."""

    host: str
    """A host name, an address or an alias of the user's SSH configuration."""
    user: str | None = None
    port: int | None = None

    @property
    def ssh_arguments(self) -> Sequence[str]:
        """What the system's ssh is given for it."""
        user = [] if self.user is None else ["-l", self.user]
        port = [] if self.port is None else ["-p", str(self.port)]
        return [*user, *port, "--", self.host]


@dataclass(frozen=True, slots=True)
class LocalSsh:
    """The ssh of this computer, and who types it."""

    options: Sequence[str]
    """Those by which it reads the user's configuration."""
    join: Callable[[Sequence[str]], str]
    """An argument list as the command line that it takes for a ProxyCommand."""
    user: str
    uid: str
    home: str
    """What `~` is to ssh, whatever HOME says."""
    hostname: str
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class OwnHost:
    """A host of the user's own, resolved."""

    hostname: str
    port: int
    user: str
    login: UserLogin
    known_as: Sequence[str]
    """The names under which its key may stand in known_hosts; the first that has one counts."""
    known_hosts: Sequence[str]
    """The files to look in, those that do not exist too."""


@dataclass(frozen=True, slots=True)
class KnownKeys:
    """What a known_hosts file says of one name; keys are OpenSSH lines without a comment."""

    trusted: tuple[str, ...] = ()
    revoked: frozenset[str] = frozenset()
    has_authority: bool = False
    """A certificate authority vouches for that name."""


def parse_destination(text: str) -> Destination:
    """`ALIAS`, `USER@HOST`, either with `:PORT`, or `ssh://…`; an IPv6 address with a port stands in
    brackets."""
    user, at, place = text.removeprefix(_URI).rstrip("/").rpartition("@")
    host, port = _split_port(place)
    if not _HOST.fullmatch(host) or (at and not _USER.fullmatch(user)):
        raise _no_host(text)
    if port is not None and not (port.isdecimal() and 0 < int(port) < 65536):
        raise _no_host(text)
    return Destination(host, user if at else None, int(port) if port is not None else None)


def to_type(text: str) -> str:
    """The same host as ssh and ssh-copy-id take it in a shell: to them `USER@HOST:PORT` is a host's
    name with a colon in it."""
    there = parse_destination(text)
    port = [] if there.port is None else ["-p", str(there.port)]
    place = there.host if there.user is None else f"{there.user}@{there.host}"
    return shlex.join([*port, place])


def parse_own_host(text: str, output: str, ssh: LocalSsh) -> OwnHost:
    """What `ssh -G` says of `text`, with nothing left to expand; `ColabdevError` for what only OpenSSH
    itself can do."""
    options = parse_options(output)
    _check_understood(text, options)
    tokens = _tokens(parse_destination(text), options, ssh)
    login = UserLogin(
        host=text,
        identity_files=tuple(
            _expand_path(path, tokens, ssh)
            for path in _values(output, "identityfile")
            if path != "none"
        ),
        identities_only=options.get("identitiesonly") == "yes",
        identity_agent=options.get("identityagent", "SSH_AUTH_SOCK"),
        proxy_command=_proxy_command(options, tokens, ssh),
        unused=tuple(
            keyword
            for keyword in ("CertificateFile", "PKCS11Provider")
            if options.get(keyword.lower(), "none") != "none"
        ),
    )
    files = [
        path
        for keyword in ("userknownhostsfile", "globalknownhostsfile")
        for path in _split_paths(options.get(keyword, ""))
        if path != "none"
    ]
    hostname, port = options["hostname"], int(options["port"])
    alias = options.get("hostkeyalias")
    known_as = [alias] if alias else _names_in_known_hosts(hostname, port)
    return OwnHost(hostname, port, options["user"], login, known_as, files)


def parse_known_keys(output: str) -> KnownKeys:
    """What `ssh-keygen -F NAME -f FILE` prints."""
    trusted: list[str] = []
    revoked: set[str] = set()
    has_authority = False
    for line in output.splitlines():
        words = line.split()
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        if line.startswith("#") or len(words) < 3:
            continue
        key = f"{words[1]} {words[2]}"
        if marker == "@revoked":
            revoked.add(key)
        elif marker == "@cert-authority":
            has_authority = True
        elif not marker and _is_whole(key):
            trusted.append(key)
    return KnownKeys(tuple(dict.fromkeys(trusted)), frozenset(revoked), has_authority)


def _is_whole(key: str) -> bool:
    """A line that was cut or mangled names a key that nobody can show; ssh passes over it, too."""
    blob = parse_public_line(key)
    return blob is not None and key_kind(blob) == key.split(maxsplit=1)[0]


def join_known_keys(found: Sequence[KnownKeys]) -> KnownKeys:
    """What all files say together: revoked in one is revoked."""
    revoked = frozenset[str]().union(*(keys.revoked for keys in found))
    trusted = dict.fromkeys(key for keys in found for key in keys.trusted if key not in revoked)
    return KnownKeys(tuple(trusted), revoked, any(keys.has_authority for keys in found))


def _check_understood(text: str, options: Mapping[str, str]) -> None:
    for keyword, no in _OPENSSH_ALONE.items():
        if options.get(keyword.lower(), no) != no:
            raise ColabdevError(
                f"cannot use {text!r}: your SSH configuration sets {keyword} for it, which only OpenSSH "
                "itself understands",
                hint=f"give it a Host of its own with {keyword} {no}",
            )
    if not _USER.fullmatch(options["user"]):
        raise _no_host(f"{options['user']}@{options['hostname']}")


def _tokens(
    destination: Destination, options: Mapping[str, str], ssh: LocalSsh
) -> Mapping[str, str]:
    """What ssh puts in the place of `%h` and the like."""
    return {
        "%": "%",
        "h": options["hostname"],
        "n": destination.host,
        "p": options["port"],
        "r": options["user"],
        "k": options.get("hostkeyalias", destination.host),
        "d": ssh.home,
        "u": ssh.user,
        "i": ssh.uid,
        "L": ssh.hostname.partition(".")[0],
        "l": ssh.hostname,
    }


def _split_port(place: str) -> tuple[str, str | None]:
    if place.startswith("["):
        host, bracket, rest = place[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            return "", None
        return host, rest[1:] if rest else None
    if place.count(":") == 1:
        host, _, port = place.partition(":")
        return host, port
    return place, None  # A bare IPv6 address has several.


def _names_in_known_hosts(hostname: str, port: int) -> list[str]:
    if port == _DEFAULT_PORT:
        return [hostname]
    return [f"[{hostname}]:{port}", hostname]  # ssh, too, takes a key without a port for any.


def _proxy_command(
    options: Mapping[str, str], tokens: Mapping[str, str], ssh: LocalSsh
) -> str | None:
    jumps = options.get("proxyjump", "none")
    if jumps not in _NOT_A_PROXY:
        place = f"[{tokens['h']}]:{tokens['p']}"
        return ssh.join(["ssh", *ssh.options, *_jump_arguments(_expand(jumps, tokens), place)])
    command = options.get("proxycommand", "none")
    return None if command in _NOT_A_PROXY else _expand(command, tokens)


def _jump_arguments(jumps: str, place: str) -> list[str]:
    """What ssh makes of ProxyJump: the last jump host carries us, and is reached by the ones before."""
    *before, last = jumps.split(",")
    jump = parse_destination(last)
    return [
        *([] if not before else ["-J", ",".join(before)]),
        "-oBatchMode=yes",  # Nobody is there to answer.
        "-W",
        place,
        *jump.ssh_arguments,
    ]


def _expand_path(path: str, tokens: Mapping[str, str], ssh: LocalSsh) -> str:
    if path.startswith(("~/", "~\\")):
        path = ssh.home + path[1:]
    path = _VARIABLE.sub(lambda found: ssh.environment.get(found[1], found[0]), path)
    return _expand(path, tokens)


def _expand(text: str, tokens: Mapping[str, str]) -> str:
    """Known tokens in their places; others stay, as no version of ssh that knows them is known here."""
    return _TOKEN.sub(lambda found: tokens.get(found[1], found[0]), text)


def _values(output: str, keyword: str) -> list[str]:
    prefix = f"{keyword} "
    return [line.removeprefix(prefix) for line in output.splitlines() if line.startswith(prefix)]


def _split_paths(value: str) -> list[str]:
    """ssh prints the paths unquoted; a word that does not begin like an absolute path belongs to the
    one before, whose name has a space."""
    paths: list[str] = []
    for word in value.split(" "):
        if paths and word != "none" and not re.match(r"[/~\\]|[A-Za-z]:", word):
            paths[-1] += f" {word}"
        else:
            paths.append(word)
    return [path for path in paths if path]


def _no_host(text: str) -> UsageError:
    return UsageError(
        f"cannot use {text!r} as a host: it is none of ALIAS, USER@HOST and USER@HOST:PORT",
        hint="give what you type after ssh: --host me@gpu.example.com",
    )
