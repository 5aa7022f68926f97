"""One quick tunnel of Cloudflare's, as a process that `tunnel.Supervisor` keeps, and by whose rules it
speaks.

`python3 <agent> cloudflared`. Settings: `port` of the SSH server here, and `program`, where
cloudflared is fetched when the PATH has none; `{arch}` in it is amd64 or arm64. A name is for one start
of the program, which comes back by itself to Cloudflare under the same name.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from typing import Any, Dict, List

PORT = 443
"""Where the name answers; only cloudflared can do anything with it."""
_FOLDER = "~/.colabdev/cloudflared"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_FETCH_TIMEOUT_S = 60.0
_BEAT_S = 5.0
_NAME = re.compile(r"https://([a-z0-9]+(?:-[a-z0-9]+)*\.trycloudflare\.com)\s*\|")
"""In the frame that it draws around the name; its messages have other addresses in them."""
_FAILURE = re.compile(r"\bERR\b|failed|error", re.IGNORECASE)
_TOO_MANY = re.compile(r"\b(429|1015)\b")


def main(arguments: List[str]) -> int:
    """Hold the tunnel until stdin ends, or the program does."""
    settings = json.loads(sys.stdin.buffer.readline().decode("ascii"))["settings"]
    folder = os.path.expanduser(_FOLDER)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        child = _start(_program(folder, settings["program"]), settings["port"], folder)
    except OSError as exc:
        _say({"failed": "cannot have cloudflared there: {}".format(exc), "code": ""})
        return 1
    threading.Thread(target=_end_with_stdin, args=(child,), daemon=True).start()
    failure = _listen(child)
    why = failure or "cloudflared ended with status {}".format(child.wait())
    _say({"failed": why[-300:], "code": "429" if _TOO_MANY.search(why) else ""})
    return 1


def _start(program: str, port: int, folder: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [program, "tunnel", "--no-autoupdate", "--url", "ssh://127.0.0.1:{}".format(port)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # A configuration in the user's home would keep it from being a quick tunnel.
        env=dict(os.environ, HOME=folder),
    )


def _listen(child: "subprocess.Popen[bytes]") -> str:
    """Until the program ends; the last of its words that speaks of a failure."""
    failure = ""
    assert child.stderr is not None, "opened with a pipe"
    for raw in child.stderr:
        line = raw.decode("utf-8", "replace").strip()
        found = _NAME.search(line)
        if found is not None:
            _say({"endpoint": {"host": found.group(1), "port": PORT}})
            threading.Thread(target=_beat, daemon=True).start()
        elif _FAILURE.search(line):
            failure = line
    return failure


def _beat() -> None:
    """While the program runs, which knows by itself how to come back."""
    while True:
        time.sleep(_BEAT_S)
        _say({"beat": True})


def _program(folder: str, source: str) -> str:
    """The path of cloudflared; fetched once."""
    found = shutil.which("cloudflared")
    if found is not None:
        return found
    path = os.path.join(folder, "cloudflared")
    if not os.path.exists(path):
        _fetch(source.replace("{arch}", _ARCHITECTURES.get(platform.machine(), "amd64")), path)
    return path


def _fetch(url: str, path: str) -> None:
    staging = path + ".part"
    try:
        answer = urllib.request.urlopen(url, timeout=_FETCH_TIMEOUT_S)
    except (urllib.error.URLError, ValueError) as exc:
        raise OSError("cannot fetch {}: {}".format(url, exc)) from exc
    with answer, open(staging, "wb") as file:
        shutil.copyfileobj(answer, file)
    os.chmod(staging, 0o700)
    os.replace(staging, path)


def _say(words: Dict[str, Any]) -> None:
    try:
        os.write(1, json.dumps(words).encode("ascii") + b"\n")
    except OSError:
        os._exit(1)  # Nobody listens any more.


def _end_with_stdin(child: "subprocess.Popen[bytes]") -> None:
    while os.read(0, 1024):
        pass
    child.kill()
    os._exit(0)
