"""Secrets, and whose computer it is, out of text that is kept or shown."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

REDACTED = "[redacted]"

_SECRET_WORD = (
    r"(?:token|secret|password|passwd|passphrase|credential|cookie"
    r"|api[_-]?key|access[_-]?key|private[_-]?key)"
)
_VALUE = r"(?:\"[^\"]*\"|'[^']*'|\S+)"
# Texts, compiled when the first secret is looked for: most commands look for none.
_SECRETS = (
    r"\b[0-9a-f]{64,}\b",  # A keeper's key.
    r"\"key\"\s*:\s*\"[^\"\n]*\"?",  # Also half of one, in a file that was cut off.
    r"\"proxy_command\"\s*:\s*\"(?:[^\"\\\n]|\\.)*\"?",
    r"(?i)\b(?:(?:proxy-)?authorization|(?:set-)?cookie)[\"']?\s*[:=]\s*[^\r\n\"']+",
    r"(?i)\bbearer\s+\S+",
    r"\bya29\.\S+",  # A Google access token.
    r"\b1//[\w-]{20,}",  # A Google refresh token.
    r"\b4/0A[\w-]{20,}",  # A Google login's code.
    r"\bGOCSPX-[\w-]+",  # A Google client secret.
    r"\bAIza[\w-]{30,}",  # A Google API key.
    r"\b2[A-Za-z0-9]{26}_[A-Za-z0-9]{21}\b",  # An ngrok authtoken.
    r"\b(?:gh[pousr]|hf|github_pat|glpat|xox[abp]|sk)[_-][\w-]{16,}",
    r"\bAKIA[A-Z0-9]{16}\b",
    r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*",  # A JSON web token.
    r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)",  # The login in a URL.
    rf"(?i)\b[\w-]*{_SECRET_WORD}[\w-]*[\"']?\s*[=:]\s*{_VALUE}",
    # An option and its value, in a command line or in a list.
    rf"(?i)--?[\w-]*{_SECRET_WORD}[\w-]*(?:[\"'],\s*|\s+){_VALUE}",
    r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----",
)
_SECRET_NAME = (
    rf"(?i).*{_SECRET_WORD}.*|(?:.*[_-])?(?:key|pass|pat|auth|authorization)|env|environment"
)
_NOT_SECRET = frozenset({"public_key", "host_key"})
# The keyword, and the first word of its value unless that is quoted, which may be all of it.
_COMMAND_LINE = (
    r"(?im)^([ \t]*(?:ProxyCommand|RemoteCommand|LocalCommand|KnownHostsCommand|SetEnv|Match)"
    r"(?:[ \t]*=[ \t]*|[ \t]+))(?!none[ \t]*$)([^\s=\"]*)[^\r\n]*$"
)
_PROGRAM = r"[^\s=\"]*"
_SOMEBODYS_HOME = r"(?i)((?<![\w.])/home/|[/\\]Users[/\\]+)[^/\\\s\"']+"
_SHORTEST_SECRET = 6
_SHORTEST_USER = 3


def redact(text: str) -> str:
    """`text` with everything that looks like a secret replaced by `[redacted]`."""
    for pattern in _SECRETS:
        text = re.sub(pattern, REDACTED, text)
    return text


def is_secret_name(name: str) -> bool:
    """Whether a variable or a field of that name has a value for nobody else."""
    return name not in _NOT_SECRET and re.fullmatch(_SECRET_NAME, name) is not None


def secret_values(environment: Mapping[str, str]) -> frozenset[str]:
    """The values of an environment that are secret by their names."""
    return frozenset(value for name, value in environment.items() if is_secret_name(name))


class Redactor:
    """Text for a stranger's eyes: no secret, known or by its looks, no home, no user's name, and no
    name of the user's own `hosts`."""

    def __init__(
        self,
        *,
        secrets: Collection[str],
        homes: Iterable[str],
        users: Iterable[str],
        hosts: Iterable[str] = (),
    ) -> None:
        longest_first = sorted(secrets, key=len, reverse=True)
        self._secrets = [secret for secret in longest_first if len(secret) >= _SHORTEST_SECRET]
        self._homes = [
            re.compile(r"(?<![\w./-])" + re.escape(home) + r"(?![\w.-])")
            for home in sorted(homes, key=len, reverse=True)
            if home.strip("/\\")
        ]
        self._names = [
            *(
                (_name(user), "USER")
                for user in users
                if len(user) >= _SHORTEST_USER and user != "root"
            ),
            *((_name(host), "HOST") for host in sorted(hosts, key=len, reverse=True) if host),
        ]

    def text(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        text = redact(text)
        for home in self._homes:
            text = home.sub("~", text)
        text = re.sub(_SOMEBODYS_HOME, r"\1USER", text)
        for name, instead in self._names:
            text = name.sub(instead, text)
        return text

    def ssh_config(self, text: str) -> str:
        """An OpenSSH configuration; of commands in it only the program stays."""
        return self.text(re.sub(_COMMAND_LINE, rf"\1\2 {REDACTED}", text))

    def document(self, value: Any) -> Any:
        """A JSON value; of a command line in it only the program stays."""
        if isinstance(value, dict):
            return {self.text(key): self._field(key, content) for key, content in value.items()}
        if isinstance(value, list):
            return [self.document(item) for item in value]
        return self.text(value) if isinstance(value, str) else value

    def _field(self, key: str, value: Any) -> Any:
        if is_secret_name(key) and value is not None:
            return REDACTED
        if key == "argv" and isinstance(value, list) and value:
            return [self.document(value[0]), *([f"({len(value) - 1} more)"] if value[1:] else [])]
        if key == "proxy_command" and isinstance(value, str):
            found = re.match(_PROGRAM, value)
            return f"{self.text(found[0]) if found else ''} {REDACTED}"
        return self.document(value)


def _name(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])")
