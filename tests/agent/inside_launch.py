"""What `test_colab_ssh.py` runs in a root of its own: `launch_ssh` again and again, and what it leaves.

Prints a JSON object as its last line.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from colabdev.agent import colab_ssh, colab_vm
from tests.support.keys import make_keypair


def main() -> dict[str, Any]:
    key = make_keypair(Path("/root"), "key")
    Path("/etc/environment").write_text("KEPT=1\n")
    answer = colab_vm.main({"public_key": key.public})
    port = answer["port"]
    os.environ["LD_LIBRARY_PATH"] = "/usr/lib64-nvidia"  # launch_ssh would write it down.
    before = look()
    seen: list[dict[str, Any]] = []

    def open_endpoint() -> str:
        seen.append({**look(), "keys": Path("/opt/colabdev/authorized_keys").read_text()})
        return f"tcp://127.0.0.1:{port}"

    said = [colab_ssh.launch(open_endpoint) for _ in range(2)]
    return {
        "public_key": key.public,
        "before": before,
        "at_endpoint": seen,
        "said": said,
        "after": look(),
        "logged_in": log_in(said[-1], key.private, answer["host_key"]),
        "refused": refused(lambda: 1 / 0),
        "after_refusal": look(),
        "port_taken": with_port_taken(),
        "after_kill": after_kill(),
        "mended": refused(lambda: 1 / 0) and look(),
    }


def look() -> dict[str, Any]:
    """What `launch_ssh` is known to change."""
    shadow = Path("/etc/shadow").read_text()
    config = Path("/etc/ssh/sshd_config")
    return {
        "password": re.search("^root:([^:]*):", shadow, re.MULTILINE)[1],  # type: ignore[index]
        "sshd_config": config.read_text() if config.exists() else None,
        "environment": Path("/etc/environment").read_text(),
        "folder": sorted(os.listdir("/opt/colabdev")),
        "processes": sorted(processes()),
        "listeners": sorted(listeners()),
    }


def processes() -> list[str]:
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            if re.match(r"(/\S+/)?(sshd|ngrok|sh)\b", line) or "placeholder" in line:
                found.append(line.strip())
    return found


def listeners() -> list[str]:
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return [row.split()[1] for row in rows if row.split()[3] == "0A"]


def log_in(said: str, key_file: Path, host_key: str) -> str:
    """By the address that `launch_ssh` printed."""
    match = re.search(r"Successfully running (\S+):(\d+)", said)
    assert match is not None, said
    host, port = match.groups()
    Path("/root/known").write_text(f"[{host}]:{port} {host_key}\n")
    options = ("UserKnownHostsFile=/root/known", "StrictHostKeyChecking=yes", "BatchMode=yes")
    words = [word for option in options for word in ("-o", option)]
    done = subprocess.run(
        ["ssh", *words, "-i", str(key_file), "-p", port, f"root@{host}", "echo $LD_LIBRARY_PATH"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout.strip() or done.stderr


def refused(open_endpoint: Any) -> str:
    try:
        return colab_ssh.launch(open_endpoint)
    except (ZeroDivisionError, colab_ssh.LaunchFailed) as exc:
        return f"{type(exc).__name__}: {exc}"


def with_port_taken() -> str:
    address = ("127.0.0.1", colab_ssh.ADDRESS_PORT)
    with socket.create_server(address):
        return refused(lambda: "never asked")


def after_kill() -> dict[str, Any]:
    """Killed when it may have changed everything: nothing can put that back but the next call."""
    pid = os.fork()
    if pid == 0:
        colab_ssh.launch(lambda: os.kill(os.getpid(), signal.SIGKILL))  # type: ignore[arg-type,return-value]
    os.waitpid(pid, 0)
    return look()


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(main()) + "\n")
