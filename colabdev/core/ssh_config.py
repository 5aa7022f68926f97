"""OpenSSH configuration as text: our stanza, and our file of stanzas.

Verified with OpenSSH 9.2: see the rules and traps in CONTRIBUTING.md, "The host entry".
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from colabdev.errors import UsageError
from colabdev.models import SshAddress, UserLogin

HEADER = "# Written by colabdev. Do not edit: it is written again by every connect and down.\n"

_HOST_LINE = re.compile(r"^Host (\S+)$", re.MULTILINE)
_DRIVE = re.compile("[A-Za-z]:/")
_BOM = "\ufeff"
_DIRECTIVE = re.compile(r'[ \t]*"?([A-Za-z0-9]+)"?(?:[ \t]*=|[ \t])[ \t]*(.*)')

# Not in the stanza, because an ssh that is older than they are would refuse the whole file, for every
# other host too; they spoil a session all the same.
_WATCHED = (
    "bindaddress",
    "bindinterface",
    "forkafterauthentication",
    "knownhostscommand",
    "pubkeyacceptedalgorithms",  # The newer name of PubkeyAcceptedKeyTypes.
    "sessiontype",
    "stdinnull",
)


_USER_KEYS = (
    "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,"
    "rsa-sha2-512,rsa-sha2-256"
)


def host_key_alias(name: str) -> str:
    """The name under which a runtime's key is pinned.

    ngrok hands the same host and port to other machines later; a key that is tied to the runtime and
    not to its address can raise neither a false alarm nor a false trust.
    """
    return f"colabdev-{name}"


def render_stanza(
    name: str,
    address: SshAddress,
    *,
    key_file: PurePath,
    known_hosts: PurePath,
    own_proxy: str | None = None,
) -> str:
    """The `Host` stanza of one runtime; overrides what a hostile `Host *` could set. `own_proxy` is the
    shell command that leads to a runtime behind a tunnel.

    Only options that OpenSSH 7.6 knew: ssh refuses a file with an unknown one, whatever the host.
    """
    lines = [
        f"HostName {address.host.replace('%', '%%')}",
        f"Port {address.port}",
        f"User {address.user}",
        "AddressFamily any",
        *_identity_lines(address.login, key_file),
        "CertificateFile none",
        f"HostKeyAlias {host_key_alias(name)}",
        f"HostKeyAlgorithms {','.join(signature_algorithms(address.host_key))}",
        f"UserKnownHostsFile {_quoted_path(known_hosts)}",
        "GlobalKnownHostsFile none",
        "StrictHostKeyChecking yes",
        "NoHostAuthenticationForLocalhost no",
        "VerifyHostKeyDNS no",
        "UpdateHostKeys no",
        "CheckHostIP no",
        "PubkeyAuthentication yes",
        f"PubkeyAcceptedKeyTypes {_USER_KEYS if address.login else 'ssh-ed25519'}",
        "PreferredAuthentications publickey",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "ForwardAgent no",
        "ForwardX11 no",
        "ClearAllForwardings no",
        "ExitOnForwardFailure no",
        "Tunnel no",
        f"ProxyCommand {_proxy_of(address, own_proxy)}",
        "ProxyJump none",
        "RemoteCommand none",
        "RequestTTY auto",
        "PermitLocalCommand no",
        "ControlMaster no",
        "ControlPath none",
        "ServerAliveInterval 15",
        "ServerAliveCountMax 4",
        "ConnectTimeout 20",
        "LogLevel INFO",
    ]
    return f"Host {name}\n" + "".join(f"  {line}\n" for line in lines)


def _identity_lines(login: UserLogin | None, key_file: PurePath) -> list[str]:
    if login is None:
        lines = [f"IdentityFile {_quoted_path(key_file)}", "IdentitiesOnly yes"]
        return [*lines, "IdentityAgent none"]
    agent = login.identity_agent
    if agent not in ("none", "SSH_AUTH_SOCK") and not agent.startswith("$"):
        agent = _quoted_path(agent)
    return [
        *(f"IdentityFile {_quoted_path(path)}" for path in login.identity_files),
        f"IdentitiesOnly {'yes' if login.identities_only else 'no'}",
        f"IdentityAgent {agent}",
    ]


def _proxy_of(address: SshAddress, own_proxy: str | None) -> str:
    command = own_proxy if address.tunnel is not None else address.proxy_command
    return "none" if command is None else command.replace("%", "%%")


def put_stanza(text: str, name: str, stanza: str) -> str:
    """Our file with `stanza` in place of the one that `name` had."""
    return _join({**_split(text), name: stanza})


def drop_stanza(text: str, name: str) -> str:
    """Our file without the stanza of `name`."""
    return _join({alias: kept for alias, kept in _split(text).items() if alias != name})


def stanza_of(text: str, name: str) -> str:
    """The stanza of `name` in our file, "" without one."""
    return _split(text).get(name, "")


def names_of(text: str) -> Sequence[str]:
    """The names that have a stanza in our file, sorted."""
    return sorted(_split(text))


def put_known_host(text: str, name: str, host_key: str) -> str:
    """Our known_hosts with `host_key` as the only key of `name`."""
    lines = [*drop_known_host(text, name).splitlines(), f"{host_key_alias(name)} {host_key}"]
    return "".join(f"{line}\n" for line in sorted(lines))


def drop_known_host(text: str, name: str) -> str:
    """Our known_hosts without the key of `name`."""
    prefix = f"{host_key_alias(name)} "
    return "".join(f"{line}\n" for line in text.splitlines() if not line.startswith(prefix))


@dataclass(frozen=True, slots=True)
class Inclusion:
    """How a main file names our file.

    ssh takes a relative path in it from `~/.ssh`, wherever the main file stands, and `~` from the
    password database, whatever HOME says.
    """

    our_file: str
    home: str

    @property
    def line(self) -> str:
        """The line that belongs at the top of the main file."""
        return f"Include {self._argument}"

    @property
    def _argument(self) -> str:
        if posixpath.normpath(self.our_file) == posixpath.join(self.home, ".ssh/colabdev/config"):
            return "colabdev/config"  # The form that Windows and WSL both understand.
        return f'"{self._pattern}"'

    @property
    def _pattern(self) -> str:
        # An Include is a glob, and newer versions expand % and ${ in it: any one character stands for
        # each of those that mean something.
        return re.sub(r"""[\x00-\x1f"'%$*?[\]\\]""", "?", self.our_file)

    def is_named_by(self, argument: str) -> bool:
        """An Include's argument, unquoted, means our file."""
        path = argument.replace("\\", "/")
        if path.startswith("~/"):
            path = posixpath.join(self.home, path[2:])
        if not _DRIVE.match(path):
            path = posixpath.join(self.home, ".ssh", path)
        path, ours = posixpath.normpath(path), posixpath.normpath(self.our_file)
        if _DRIVE.match(ours):  # Windows does not tell capitals.
            path, ours = path.casefold(), ours.casefold()
        return self._pattern == argument or ours == path


def has_include(text: str, inclusion: Inclusion) -> bool:
    """A main file includes ours before anything else could set an option.

    Behind a Host or Match an Include is conditional, and ssh takes the first value it meets: only
    other Includes may stand before it.
    """
    for _, keyword, arguments in _directives(text):
        if keyword != "include":
            return False
        if any(inclusion.is_named_by(argument) for argument in arguments):
            return True
    return False


def insert_include(text: str, inclusion: Inclusion) -> str:
    """The main file with our Include as its first line; the rest stays byte for byte."""
    mark = _BOM if text.startswith(_BOM) else ""
    first_line, newline, _ = text.partition("\n")
    ending = "\r\n" if newline and first_line.endswith("\r") else "\n"
    return f"{mark}{inclusion.line}{ending}{text[len(mark) :]}"


def drop_include(text: str, inclusion: Inclusion) -> str:
    """The main file without the lines that include our file and nothing else; the rest stays byte for
    byte."""
    ours = {
        number
        for number, keyword, arguments in _directives(text)
        if keyword == "include" and arguments and all(map(inclusion.is_named_by, arguments))
    }
    mark = _BOM if text.startswith(_BOM) else ""
    lines = enumerate(text.removeprefix(_BOM).split("\n"), start=1)
    return mark + "\n".join(line for number, line in lines if number not in ours)


def host_line(text: str, name: str) -> int | None:
    """The line of a main file that has a `Host` of that very name; wildcards do not count."""
    for number, keyword, arguments in _directives(text):
        if keyword == "host" and name in arguments and f"!{name}" not in arguments:
            return number
    return None


def parse_applied_host(debug_output: str, name: str) -> str | None:
    """Where `ssh -v -G NAME` met a `Host` of that very name: "FILE line 7"."""
    found = re.search(
        rf"^debug1: (.* line \d+): Applying options for {re.escape(name)}\r?$",
        debug_output,
        re.MULTILINE,
    )
    return found[1] if found else None


def parse_options(output: str) -> Mapping[str, str]:
    """What `ssh -G` prints: the first value of each option, which is the one that counts."""
    options: dict[str, str] = {}
    for line in output.splitlines():
        keyword, _, value = line.partition(" ")
        options.setdefault(keyword, value)
    return options


def same_login(stanza: str, alone: Mapping[str, str], together: Mapping[str, str]) -> bool:
    """ssh does with all the user's configuration what it does with our file alone, as far as `stanza`
    says something of it."""
    keywords = [line.split()[0].lower() for line in stanza.splitlines()[1:]]
    return all(
        alone.get(keyword, "none") == together.get(keyword, "none")
        for keyword in (*keywords, *_WATCHED)
    )


def _directives(text: str) -> Iterator[tuple[int, str, list[str]]]:
    """Line number, keyword in lower case and unquoted arguments of each line, as ssh reads them."""
    for number, line in enumerate(text.removeprefix(_BOM).split("\n"), start=1):
        found = _DIRECTIVE.fullmatch(line.rstrip(" \t\r\f"))
        if found:
            yield number, found[1].lower(), _words(found[2])


def _words(text: str) -> list[str]:
    """As OpenSSH's argv_split: quotes anywhere in a word, a backslash before few characters, and `#`
    where a word would begin ends the line."""
    words: list[str] = []
    word: str | None = None
    quote = ""
    escaped = False
    for character, following in zip(text, [*text[1:], ""], strict=True):
        if word is None:
            if character in " \t":
                continue
            if character == "#":
                break
            word = ""
        if escaped:
            escaped = False
            word += character
        elif character == "\\" and following and following in ("\"'\\" if quote else "\"'\\ "):
            escaped = True
        elif character == quote:
            quote = ""
        elif not quote and character in "\"'":
            quote = character
        elif not quote and character in " \t":
            words.append(word)
            word = None
        else:
            word += character
    return words if word is None else [*words, word]


def signature_algorithms(host_key: str) -> Sequence[str]:
    """The algorithms by which a server proves that it has that key."""
    kind = host_key.split(maxsplit=1)[0]
    return ("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,)


def _split(text: str) -> dict[str, str]:
    pieces = _HOST_LINE.split(text)[1:]
    names, bodies = pieces[::2], pieces[1::2]
    return {name: f"Host {name}{body.rstrip()}\n" for name, body in zip(names, bodies, strict=True)}


def _join(stanzas: dict[str, str]) -> str:
    return HEADER + "".join(f"\n{stanza}" for _, stanza in sorted(stanzas.items()))


def check_expressible(directory: Path) -> None:
    """Refuse a directory whose name OpenSSH cannot read from its configuration: a line end, which
    ends the option, and `${`, which it expands and knows no escape for."""
    if any(part in str(directory) for part in ("\n", "\r", "${")):
        raise UsageError(
            f"cannot write an SSH configuration that names {str(directory)!r}: OpenSSH cannot read "
            "line ends or ${ in a path",
            hint="set COLABDEV_SSH_CONFIG to a file in a directory without them",
        )


def _quoted_path(path: PurePath | str) -> str:
    """A path as an ssh_config argument: quoted, with `%` and quotes escaped, and with the slashes that
    Windows' ssh takes too."""
    text = path if isinstance(path, str) else path.as_posix()
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"'
