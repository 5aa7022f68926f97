"""The classic `launch_ssh` of the colab-ssh package, made to succeed and to leave nothing behind.

The package downloads an ngrok that is refused today, sets a password and opens root's login to it. Here
it runs as it is, between our own things: the `./ngrok` that it starts is ours, the SSH server's
configuration that it adds to begins with lines that its own cannot change, and the endpoint is opened
only once root's password is what it was before. Run as text in a kernel, or from the agent.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import Any, Callable, Dict, Iterator, List, Optional

HOME = "/opt/colabdev"
ADDRESS_PORT = 4040
"""Where `launch_ssh` asks ngrok for its address."""
_TIMEOUT_S = 180.0
_END_TIMEOUT_S = 5.0
_POLL_S = 0.05
_PLACEHOLDER = "placeholder"
"""In place of the token, because `launch_ssh` puts it on a command line."""
_CHANGED_FILES = ("/etc/ssh/sshd_config", "/etc/environment")
_NOT_NEEDED = ("apt-get", "wget", "unzip", "ps")
"""What it asks these for has been done, is not to be had any more, or, with `ps`, ends any program of
the user's that is called ngrok."""

_LAUNCHER = """\
import secrets, sys, types
# Imported by the package, used by none of what is called here, and missing in most Pythons.
sys.modules["apt"] = types.ModuleType("apt")
from colab_ssh import launch_ssh
launch_ssh({token!r}, secrets.token_urlsafe(24))
"""

_NGROK = """\
import http.server, json, os, signal, socket, sys, threading, time
door = socket.socket(fileno=0)

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"tunnels": [{"public_url": url, "proto": "tcp", "name": "ssh"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *said):
        pass

deadline = time.monotonic() + 2
while True:
    try:
        server = http.server.HTTPServer(("127.0.0.1", @PORT@), Answer)
        break
    except OSError as exc:
        # The one of a call that has just ended lets go of it now.
        if time.monotonic() >= deadline:
            door.sendall(("port " + str(exc)).encode())
            os._exit(1)
    time.sleep(0.05)
door.sendall(b"ready")
url = door.recv(4096).decode()
if url:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    door.recv(1)
else:
    # Whoever runs launch_ssh has died.
    os.kill(os.getppid(), signal.SIGKILL)
os._exit(0)
"""
"""What `launch_ssh` starts as ngrok: asks its stdin for the address, and tells it who asks."""


class LaunchFailed(Exception):
    """`launch_ssh` did not come to its end; the text says why."""


def launch(open_endpoint: Callable[[], str], home: str = HOME) -> str:
    """Run it, and return what it printed. Twice is as once; after a kill the next call mends first.

    The package and what it needs are this Python's. `open_endpoint` opens the way to the private SSH
    server of `home`, which runs, and returns its `tcp://host:port`; it is called when nobody can log in
    by a password any more.
    """
    folder = os.path.join(home, "launch")
    with _alone(home) as lock:
        _put_back(folder)
        try:
            os.mkdir(folder, 0o700)
            os.mkdir(os.path.join(folder, "bin"))
            _keep(folder)
            _prepare(folder, home)
            return _run(folder, open_endpoint, lock)
        finally:
            _put_back(folder)


def mend(home: str = HOME) -> None:
    """Put back what a call that was killed has left."""
    folder = os.path.join(home, "launch")
    if os.path.exists(folder):
        with _alone(home):
            _put_back(folder)


@contextlib.contextmanager
def _alone(home: str) -> Iterator[int]:
    """One at a time. What `launch_ssh` runs in holds the lock, too, and so outlives no call."""
    deadline = time.monotonic() + _TIMEOUT_S
    with open(os.path.join(home, "launch.lock"), "w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise LaunchFailed("another launch_ssh runs there and does not end") from None
            time.sleep(_POLL_S)
        yield lock.fileno()


def _keep(folder: str) -> None:
    """Write down what `launch_ssh` changes, before it does."""
    kept = {
        "files": {path: _read(path) for path in _CHANGED_FILES},
        "password": _password_field(),
    }
    path = os.path.join(folder, "kept.json")
    with open(path + ".new", "w") as file:
        json.dump(kept, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".new", path)


def _put_back(folder: str) -> None:
    """Everything as `_keep` found it, and then the folder gone. Raises what keeps it from that."""
    kept = _kept(folder)
    if kept is not None:
        for path, text in kept["files"].items():
            _write_back(path, text)
        _take_back_password(kept["password"])
    shutil.rmtree(folder, ignore_errors=True)


def _kept(folder: str) -> Optional[Dict[str, Any]]:
    text = _read(os.path.join(folder, "kept.json"))
    if text is None:
        return None
    kept: Dict[str, Any] = json.loads(text)
    return kept


def _write_back(path: str, text: Optional[str]) -> None:
    if _read(path) == text:
        return
    if text is None:
        os.unlink(path)
        return
    with open(path, "w", errors="surrogateescape") as file:
        file.write(text)


def _prepare(folder: str, home: str) -> None:
    """Put our things where `launch_ssh` finds them before others."""
    for name in _NOT_NEEDED:
        _write_program(os.path.join(folder, "bin", name), "exit 0")
    source = _NGROK.replace("@PORT@", str(ADDRESS_PORT))
    words = (sys.executable, "-I", "-S", "-c", source)
    _write_program(
        os.path.join(folder, "ngrok"), "exec " + " ".join(map(shlex.quote, words)) + ' "$@"'
    )
    # sshd takes the first value that it meets, so what is added to this changes nothing; and the port
    # in it is taken by the server that runs with it, so the one that is started with it ends at once.
    private = _read(os.path.join(home, "sshd_config"))
    assert private is not None, "the private server runs with it"
    os.makedirs("/etc/ssh", exist_ok=True)
    with open("/etc/ssh/sshd_config", "w") as file:
        file.write(private)


def _write_program(path: str, line: str) -> None:
    with open(path, "w") as file:
        file.write("#!/bin/sh\n%s\n" % line)
    os.chmod(path, 0o700)


def _run(folder: str, open_endpoint: Callable[[], str], lock: int) -> str:
    """Start it, and serve the one who speaks for ngrok."""
    ours, theirs = socket.socketpair()
    said = os.path.join(folder, "said")
    with ours, theirs, open(said, "wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-c", _LAUNCHER.format(token=_PLACEHOLDER)],
            stdin=theirs.fileno(),
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=_environment(folder),
            start_new_session=True,
            pass_fds=(lock,),
        )
        theirs.close()
        try:
            ours.settimeout(_TIMEOUT_S)
            _serve(ours, folder, open_endpoint)
            code = child.wait(_TIMEOUT_S)
        except (socket.timeout, subprocess.TimeoutExpired):
            raise LaunchFailed("launch_ssh did not end within %d s" % _TIMEOUT_S) from None
        finally:
            _end(child, ours)
    printed = _read(said) or ""
    if code != 0 or "Successfully running" not in printed:
        raise LaunchFailed("launch_ssh failed: %s" % "".join(printed.splitlines()[-1:]))
    return printed


def _serve(door: socket.socket, folder: str, open_endpoint: Callable[[], str]) -> None:
    """Wait for our ngrok, shut what was open, open the endpoint, tell its address."""
    word = door.recv(4096).decode("utf-8", "replace")
    if word.startswith("port"):
        raise LaunchFailed(
            "port %d is taken there, by another ngrok perhaps: %s" % (ADDRESS_PORT, word[5:])
        )
    if word != "ready":
        said = (_read(os.path.join(folder, "said")) or "it ended").strip().splitlines()
        raise LaunchFailed("launch_ssh failed before it started ngrok: %s" % said[-1])
    kept = _kept(folder)
    assert kept is not None, "written before launch_ssh was started"
    _take_back_password(kept["password"])
    door.sendall(open_endpoint().encode("ascii"))


def _end(child: "subprocess.Popen[bytes]", door: socket.socket) -> None:
    """With everything that it started; what it started has the door's other end, too."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    door.settimeout(_END_TIMEOUT_S)
    with contextlib.suppress(OSError):
        while door.recv(4096):
            pass


def _environment(folder: str) -> Dict[str, str]:
    """Ours first on the PATH; and 127.0.0.1 is asked without a proxy."""
    path = os.path.join(folder, "bin") + ":" + os.environ.get("PATH", "")
    return {**os.environ, "PATH": path + ":/usr/sbin:/sbin", "NO_PROXY": "*", "no_proxy": "*"}


def _password_field() -> str:
    """Root's second field in /etc/shadow: the hash, or what locks it."""
    for row in _shadow_rows():
        if row[0] == "root":
            return row[1]
    raise LaunchFailed("this machine has no root in /etc/shadow")


def _take_back_password(before: str) -> None:
    """Root's password as it was; one that was empty is locked instead."""
    field = before or "*"
    if _password_field() == field:
        return
    row = ("root:%s\n" % field).encode()
    subprocess.run(["chpasswd", "-e"], input=row, timeout=30, check=False)
    if _password_field() != field:
        raise LaunchFailed("cannot take back the password that launch_ssh set")


def _shadow_rows() -> List[List[str]]:
    return [line.split(":") for line in (_read("/etc/shadow") or "").splitlines() if ":" in line]


def _read(path: str) -> Optional[str]:
    """None when it is not there."""
    try:
        with open(path, errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return None
