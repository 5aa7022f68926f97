"""VS Code's part: the ssh that its Remote-SSH starts for a window, and what it does over that."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.house import House
from tests.support.waiting import wait_until
from tests.support.web import free_port, through_socks

# As its installer: found or made once, then it says by a line with a mark where the server listens.
_INSTALL = """set -e
server=$HOME/.vscode-server/bin/server
if [ ! -x "$server" ]; then
    mkdir -p "${server%/*}"
    printf '#!/bin/sh\\necho served\\n' > "$server" && chmod +x "$server"
    echo installed
fi
echo "start: $("$server") :end"
"""


class Window:
    """`ssh -T -D PORT ALIAS bash`, fed with an install script; ends with the `with` block."""

    def __init__(self, house: House, alias: str, main_file: Path) -> None:
        self._argv = [
            *("ssh", "-F", str(main_file), "-T", "-D"),
            str(free_port()),
            *("-o", "ConnectTimeout=15", alias, "bash"),
        ]
        self._environment = house.environment
        self.port = int(self._argv[5])
        self.said: list[str] = []

    def __enter__(self) -> Window:
        self._ssh = subprocess.Popen(
            self._argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environment,
            text=True,
        )
        assert self._ssh.stdin is not None
        assert self._ssh.stdout is not None
        try:
            self._ssh.stdin.write(_INSTALL)
            self._ssh.stdin.flush()
            for line in self._ssh.stdout:
                self.said.append(line.strip())
                if line.startswith("start: "):
                    break
        except BrokenPipeError:
            pass  # It could not connect; `said` is empty then.
        return self

    def __exit__(self, *_: object) -> None:
        self._ssh.kill()
        self._ssh.communicate()

    def get(self, port: int, path: str) -> bytes:
        """What a web server on the runtime answers, through this window's proxy."""
        request = f"GET /{path} HTTP/1.0\r\n\r\n".encode()
        answer = wait_until(
            lambda: through_socks(self.port, port, request), message="the proxy answers"
        )
        return answer.rpartition(b"\r\n\r\n")[2]

    def wait_ended(self) -> int:
        """The status of its ssh, once that has ended by itself."""
        return self._ssh.wait(20)


def wait_for_entry(house: House, port: int) -> None:
    """Until the host entry leads to that port, which it must within 5 s."""
    wait_until(
        lambda: f"  Port {port}\n" in house.ssh_files.config_file.read_text(),
        timeout_s=5,
        message=f"the host entry leads to {port}",
    )
