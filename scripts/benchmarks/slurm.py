"""A Slurm cluster of two nodes on loopback, all of it in one directory, gone with the `with` block."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.support.sshd import SYSTEM_PATH
from tests.support.waiting import wait_until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "sinfo", "scancel")
NODES = ("one", "two")
SILENT_S = 2
"""After so long without a word a node counts as down: as little as is of use."""
EXPIRES_S = 5
"""How long what was requeued must wait, which is 120 s unless it is said."""

CONFIG = """\
ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket,cred_expire={expires_s}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
JobRequeue=1
ReturnToService=2
SlurmdTimeout={silent_s}
SlurmctldTimeout=2
MessageTimeout=2
TCPTimeout=1
KillWait=1
MinJobAge=2
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
JobAcctGatherType=jobacct_gather/none
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/%n.log
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def is_installed() -> bool:
    """Says so when there is none to be beside."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=SYSTEM_PATH) is None]
    if missing:
        print("no rows beside Slurm: apt-get install slurm-wlm", file=sys.stderr)
    return not missing


def free_ports(count: int) -> list[int]:
    """That many ports which nobody had a moment ago."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


@dataclass
class Slurm:
    """Running from `__enter__` on; nodes are PID namespaces, so that one dies whole."""

    root: Path
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        control_port, *ports = free_ports(1 + len(NODES))
        host = socket.gethostname().partition(".")[0]
        node = "NodeName={} NodeHostname={} NodeAddr=127.0.0.1 Port={} CPUs=1 State=UNKNOWN"
        (self.root / "state").mkdir()
        (self.root / "munge.key").write_bytes(os.urandom(128))
        (self.root / "munge.key").chmod(0o600)
        self._config.write_text(
            CONFIG.format(
                root=self.root,
                host=host,
                user="root",
                control_port=control_port,
                expires_s=EXPIRES_S,
                silent_s=SILENT_S,
                nodes="\n".join(
                    node.format(name, host, port) for name, port in zip(NODES, ports, strict=True)
                ),
            )
        )
        try:
            self._start_all()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start_all(self) -> None:
        names = ("munge.key", "munge.socket", "munge.pid", "munge.log", "munge.seed")
        options = ("--key-file", "--socket", "--pid-file", "--log-file", "--seed-file")
        words = [
            f"{option}={self.root / name}" for option, name in zip(options, names, strict=True)
        ]
        self._start("munged", ["munged", "--foreground", "--force", *words])
        wait_until((self.root / "munge.socket").exists, message="munged does not listen")
        self._start("slurmctld", ["slurmctld", "-D", "-f", str(self._config)])
        for node in NODES:
            self.start_node(node)
        self.wait_for_nodes()

    def start_node(self, node: str) -> None:
        """As a machine that is switched on."""
        alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self._start(node, [*alone, "slurmd", "-D", "-N", node, "-f", str(self._config)])

    def end_node(self, node: str) -> None:
        """As a machine that is switched off."""
        self._end(node)

    def wait_for_nodes(self) -> None:
        """Until all of them take jobs."""
        wait_until(
            lambda: self.say("sinfo", "-h", "-t", "idle", "-o", "%D").strip() == str(len(NODES)),
            timeout_s=60,
            message=f"not all nodes are up: {self.logs()}",
        )

    def submit(self, script: Path, *words: str | Path) -> str:
        """The id of a job that is requeued when its node dies."""
        told = self.say("sbatch", "--parsable", "--requeue", "--open-mode=append", "-o",
                        f"{self.root}/job.log", str(script), *map(str, words))  # fmt: skip
        return told.strip()

    def node_of(self, job: str) -> str:
        """Where it runs."""
        return self.say("squeue", "-h", "-j", job, "-o", "%N").strip()

    def is_down(self, node: str) -> bool:
        """Whether it is known to be gone."""
        return "down" in self.say("sinfo", "-h", "-n", node, "-o", "%T")

    def say(self, *words: str) -> str:
        """What one of its commands prints."""
        done = subprocess.run(
            words, env=self._environment, capture_output=True, text=True, timeout=30, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr}{self.logs()}")
        return done.stdout

    def logs(self) -> str:
        """The end of what its programs wrote."""
        return "".join(f"\n--- {path.name}\n{path.read_text(errors='replace')[-2000:]}"
                       for path in sorted(self.root.glob("*.log")))  # fmt: skip

    def close(self) -> None:
        for name in reversed(list(self._processes)):
            self._end(name)

    @property
    def _config(self) -> Path:
        return self.root / "slurm.conf"

    @property
    def _environment(self) -> dict[str, str]:
        return {"PATH": SYSTEM_PATH, "SLURM_CONF": str(self._config), "HOME": str(self.root)}

    def _start(self, name: str, words: Sequence[str]) -> None:
        with (self.root / f"{name}.out.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                words,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.root,
                start_new_session=True,
            )

    def _end(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is not None:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.wait()
