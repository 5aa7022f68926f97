"""A runtime by ngrok, and one by Colab's websocket, each beside the same runtime reached directly, by
the same ssh. Everything is on loopback, and the edge and Colab are stand-ins in Python: what is their
own, and their distance, is not in it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import Round, Row, alternate
from tests.support.colab import Colab
from tests.support.colab_user import ColabHouse
from tests.support.house import House
from tests.support.ngrok_house import CONNECT, ngrok_house

ROUNDS = 7
SIZE_BYTES = 16_000_000


def run(rounds: int) -> list[Row]:
    """Handshake and throughput of each."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="colabdev-bench-") as directory:
        root = Path(directory)
        data = root / "data"
        data.write_bytes(os.urandom(SIZE_BYTES))
        with ngrok_house(root) as (house, _):
            done = house.colabdev(*CONNECT, "--tunnel", "ngrok", timeout_s=120)
            assert done.returncode == 0, done.stderr
            rows += _rows("by ngrok", house, "local", data, rounds)
        if os.geteuid() != 0:
            print("no rows by the websocket: a machine of the stand-in needs root", file=sys.stderr)
            return rows
        with _colab_house(root / "colab") as house:
            rows += _rows("by websocket", house, "colab", data, rounds)
    return rows


@contextmanager
def _colab_house(root: Path) -> Iterator[ColabHouse]:
    root.mkdir()
    with (
        Colab(root / "server") as colab,
        ColabHouse(root / "house", colab, browser="true") as house,
    ):
        house.log_in_by_gcloud()
        house.connect_colab("--tunnel", "colab")
        yield house


def _rows(label: str, house: House, name: str, data: Path, rounds: int) -> list[Row]:
    """That host entry beside its own runtime's SSH server, which this computer sees, too."""
    machine = house.record(name).machine
    assert machine is not None
    by_tunnel = list(house.ssh_files.command(name, []))
    there = ("HostName=127.0.0.1", f"Port={machine.ssh.port}", "ProxyCommand=none")
    options = [word for option in there for word in ("-o", option)]
    direct = [by_tunnel[0], *options, *by_tunnel[1:]]

    def row(title: str, command: str, source: Path) -> Row:
        def work(ssh: Sequence[str]) -> Round:
            return lambda: _run([*ssh, command], source, house)

        took = alternate({label: work(by_tunnel), "direct": work(direct)}, rounds)
        return Row(title, label, "direct", took[label], took["direct"])

    return [
        row("tunnel: a handshake", "true", Path(os.devnull)),
        row("tunnel: 16 MB up", "cat > /dev/null", data),
    ]


def _run(argv: Sequence[str], source: Path, house: House) -> None:
    with source.open("rb") as stdin:
        subprocess.run(argv, stdin=stdin, env=house.environment, check=True, timeout=120)
