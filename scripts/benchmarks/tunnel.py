"""A runtime by ngrok beside the same runtime reached directly, by the same ssh. Both are on loopback and
the edge is a stand-in in Python: what is ngrok's own, and its distance, is not in it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Round, Row, alternate
from tests.support.ngrok_house import CONNECT, ngrok_house

ROUNDS = 7
SIZE_BYTES = 16_000_000


def run(rounds: int) -> list[Row]:
    """Handshake and throughput."""
    with (
        tempfile.TemporaryDirectory(prefix="colabdev-bench-") as root,
        ngrok_house(Path(root)) as (house, _),
    ):
        done = house.colabdev(*CONNECT, "--tunnel", "ngrok", timeout_s=120)
        assert done.returncode == 0, done.stderr
        machine = house.record().machine
        assert machine is not None
        by_ngrok = list(house.ssh_files.command("local", []))
        direct = [by_ngrok[0], "-o", f"Port={machine.ssh.port}", *by_ngrok[1:]]
        data = Path(root) / "data"
        data.write_bytes(os.urandom(SIZE_BYTES))

        def row(title: str, command: str, source: Path) -> Row:
            def work(ssh: Sequence[str]) -> Round:
                return lambda: _run([*ssh, command], source)

            took = alternate({"by ngrok": work(by_ngrok), "direct": work(direct)}, rounds)
            return Row(title, "by ngrok", "direct", took["by ngrok"], took["direct"])

        return [
            row("tunnel: a handshake", "true", Path(os.devnull)),
            row("tunnel: 16 MB up", "cat > /dev/null", data),
        ]


def _run(argv: Sequence[str], source: Path) -> None:
    with source.open("rb") as stdin:
        subprocess.run(argv, stdin=stdin, check=True, timeout=120)
