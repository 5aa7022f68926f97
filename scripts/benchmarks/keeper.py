"""The keeper beside plain ssh: a request's round trip, throughput both ways, healing, memory.

Ours is a library call on a warm connection; ssh is the whole program, as a script would run it, cold
and over a ControlMaster. Both reach the same server: the sandbox of the local provider, whose server
is Python, so the throughput rows compare the ways to it and not the server itself.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.measure import Row, against_limit, alternate, peak_rss_mb
from benchmarks.way import RTT_S, Way, direct, thin
from colabdev.adapters.processes import run as run_process
from tests.support.house import House
from tests.support.waiting import wait_until

ROUNDS = 7

KEEPER_LIMIT_MB = 80.0
AGENT_LIMIT_MB = 40.0
FAST_BYTES = 64 << 20
THIN_BYTES = 4 << 20


def run(rounds: int) -> list[Row]:
    """All rows, at loopback and through a relay of 100 ms and 20 Mbit/s."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as directory, House(Path(directory)) as house:
        house.connect()
        with direct(house) as way:
            rows += round_trips(way, rounds)
            rows += throughput(way, rounds, FAST_BYTES)
            rows += memory(house, way)
        with thin(house) as way:
            rows += round_trips(way, rounds)
            rows += throughput(way, rounds, THIN_BYTES)
            rows += healing(way, rounds)
    return rows


def round_trips(way: Way, rounds: int) -> list[Row]:
    """A request and its answer, on an agent handed out for it, beside `ssh HOST true`."""

    def request() -> None:
        agent = way.keeper.agent()
        agent.request("ping")
        agent.close()

    def settled_request() -> float:
        # The next agent starts beside us; the one after this request must be there, as it is for
        # people, who do not type twice within a tenth of a second.
        way.keeper.wait_ready(20)
        begun = time.perf_counter()
        request()
        return time.perf_counter() - begun

    def over_master() -> None:
        subprocess.run([*way.master, "true"], check=True)

    def cold() -> None:
        subprocess.run([*way.ssh, "true"], check=True)

    taken = alternate({"ours": settled_request, "master": over_master, "cold": cold}, rounds)
    title = f"request round trip, {way.label}"
    wire = {
        "ours": way.wire_bytes(settled_request),
        "master": way.wire_bytes(over_master),
        "cold": way.wire_bytes(cold),
    }
    return [
        Row(
            title, "keeper", f"ssh {name}", taken["ours"], taken[key], target,
            wire_bytes=wire["ours"], beside_wire_bytes=wire[key],
        )
        for name, key, target in (("multiplexed", "master", 1.3), ("cold", "cold", 0.5))
    ]  # fmt: skip


def throughput(way: Way, rounds: int, size_bytes: int) -> list[Row]:
    """`size_bytes` up and down beside `ssh HOST cat`."""
    data = bytes(size_bytes)
    command = "cat > /dev/null"
    source = f"head -c {size_bytes} /dev/zero"

    def up() -> None:
        run_process(way.keeper, ["sh", "-c", command], stdin=data)

    def down() -> None:
        assert len(run_process(way.keeper, ["sh", "-c", source]).stdout) == size_bytes

    def ssh_up() -> None:
        subprocess.run([*way.master, command], input=data, check=True)

    def ssh_down() -> None:
        done = subprocess.run([*way.master, source], stdout=subprocess.PIPE, check=True)
        assert len(done.stdout) == size_bytes

    taken = alternate({"up": up, "ssh up": ssh_up, "down": down, "ssh down": ssh_down}, rounds)
    title = f"{size_bytes >> 20} MiB"
    return [
        Row(
            f"{title} {direction}, {way.label}",
            "keeper",
            "ssh multiplexed",
            taken[direction],
            taken[beside],
        )
        for direction, beside in (("up", "ssh up"), ("down", "ssh down"))
    ]


def healing(way: Way, rounds: int) -> list[Row]:
    """Seconds from the path's return to a connection; from the path's silence to knowing of it."""
    relay = way.relay
    assert relay is not None

    def back() -> float:
        relay.do("refuse")
        relay.do("cut")
        wait_until(lambda: way.keeper.link()["state"] == "unreachable", message="cut")
        time.sleep(2)
        relay.do("accept")
        begun = time.perf_counter()
        wait_until(lambda: way.keeper.link()["state"] in ("connecting", "ready"), message="back")
        return time.perf_counter() - begun

    def noticed() -> float:
        way.keeper.wait_ready(20)
        relay.do("freeze")
        begun = time.perf_counter()
        wait_until(
            lambda: way.keeper.link()["state"] == "unreachable", timeout_s=30, message="noticed"
        )
        taken_s = time.perf_counter() - begun
        relay.do("thaw")
        way.keeper.wait_ready(20)
        return taken_s

    return [
        against_limit(
            f"connected again after the path is back, {way.label}",
            "keeper", [back() for _ in range(rounds)], 2 * RTT_S + 1.0,
        ),
        against_limit(
            f"silent path noticed, {way.label}", "keeper", [noticed() for _ in range(5)], 15.0
        ),
    ]  # fmt: skip


def memory(house: House, way: Way) -> list[Row]:
    """Peak memory of the keeper, after all of the above, and of an idle agent."""
    agent = way.keeper.agent()
    rows = [
        against_limit(
            "keeper, peak memory",
            "keeper",
            [peak_rss_mb(house.keeper_pid())],
            KEEPER_LIMIT_MB,
            "MB",
        ),
        against_limit(
            "agent, peak memory", "agent", [peak_rss_mb(agent.hello.pid)], AGENT_LIMIT_MB, "MB"
        ),
    ]
    agent.close()
    return rows
