"""Seconds from a machine's death to the next new step: `colabdev run`, Slurm's requeue, a loop over ssh.

The same trainer everywhere, which saves twice a second; a new step is one that nobody had done before
the death. Ours finds out that the machine is gone, starts another, brings code and checkpoint there. For
Slurm a node waits with everything on a shared folder, and all of its patience is as short as it can be;
the loop's next machine is up, too, and has the code.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

from benchmarks import slurm
from benchmarks.measure import Round, Row, alternate
from benchmarks.slurm import Slurm
from tests.support.drive.machine import end_processes
from tests.support.house import House
from tests.support.keys import make_keypair
from tests.support.recovery.project import Training
from tests.support.recovery.train import CHECKPOINTS
from tests.support.sshd import Sshd
from tests.support.waiting import wait_until

ROUNDS = 5
TITLE = "from a machine's death to the next new step"
PAUSE_S = 0.05
STEPS_BEFORE = 100
LONGEST_S = 300.0

SLURM_JOB = """\
#!/bin/sh
cd {project}
export COLABDEV_ATTEMPT=$((${{SLURM_RESTART_COUNT:-0}} + 1))
newest=$(ls -d runs/a/checkpoints/step-* 2> /dev/null | tail -n 1)
exec {words} ${{newest:+--resume $newest}}
"""
HOST = """\
Host {}
  HostName 127.0.0.1
  Port {}
  User {}
  IdentityFile {}
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
"""

HAND = """\
SSH="ssh -F config -o BatchMode=yes -o ConnectTimeout=5"
attempt=1
set -- {hosts}
start() {{
  newest=$(ls -d kept/step-*/state.pt 2> /dev/null | tail -n 1)
  newest=${{newest:+runs/a/checkpoints/$(basename ${{newest%/*}})}}
  [ -z "$newest" ] || rsync -a -e "$SSH" kept/ $1:{folder}/$1/project/runs/a/checkpoints/
  $SSH $1 "cd {folder}/$1/project &&
    COLABDEV_ATTEMPT=$attempt exec {words} ${{newest:+--resume $newest}}" &
}}
start $1
while sleep 1; do
  if $SSH $1 true; then
    rsync -a -e "$SSH" --exclude '.saving*' $1:{folder}/$1/project/runs/a/checkpoints/ kept/
  else
    shift; attempt=$((attempt + 1)); start $1
  fi
done
"""


def run(rounds: int) -> list[Row]:
    """Each round is a job of its own whose machine dies once."""
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="colabdev-bench-")))
        ways: dict[str, Round] = {
            "ours": _ours(stack.enter_context(House(root / "house")), root / "ours"),
        }
        missing = [name for name in ("ssh", "rsync") if shutil.which(name) is None]
        if missing:
            named = ", ".join(missing)
            print(f"bench recovery: no row beside a loop: {named} not found", file=sys.stderr)
        else:
            ways["a loop of ssh and rsync"] = _by_hand(root / "hand")
        if slurm.is_usable():
            (root / "slurm").mkdir()
            cluster = stack.enter_context(Slurm(root / "slurm"))
            ways["Slurm, its node dies"] = _slurm(cluster, root / "node", _end_its_node)
            ways["Slurm, scontrol requeue"] = _slurm(cluster, root / "requeue", _requeue)
        taken = alternate(ways, rounds)
    ours = taken.pop("ours")
    return [Row(TITLE, "colabdev run", label, ours, times) for label, times in taken.items()]


def _seconds(training: Training, kill: Callable[[], object]) -> float:
    """From the last sign of the first attempt to the first step that nobody had done before."""
    training.wait_for_step(STEPS_BEFORE)
    kill()
    wait_until(lambda: len(training.written()) > 1, timeout_s=LONGEST_S, message="nothing goes on")
    died, step = training.written()[0].steps[-1]
    return training.wait_for_step(step + 1, LONGEST_S) - died


def _trainings(root: Path) -> Iterator[Training]:
    """A new one for each round."""
    for number in count(1):
        training = Training(root / f"digits{number}", root / f"truth{number}", pause_s=PAUSE_S)
        training.write()
        yield training


def _ours(house: House, root: Path) -> Round:
    trainings = _trainings(root)

    def once() -> float:
        training = next(trainings)
        done = house.colabdev("connect", "local", "--provider", "local", cwd=training.project)
        assert done.returncode == 0, done.stderr
        done = house.colabdev("run", "--detach", *training.words, cwd=training.project)
        assert done.returncode == 0, done.stderr
        taken_s = _seconds(training, lambda: house.provider.kill("local"))
        for words in (["stop", done.stdout.strip()], ["down", "local", "--force"]):
            ended = house.colabdev(*words, cwd=training.project)
            assert ended.returncode == 0, ended.stderr
        return taken_s

    return once


def _slurm(cluster: Slurm, root: Path, kill: Callable[[Slurm, str], None]) -> Round:
    trainings = _trainings(root)

    def once() -> float:
        training = next(trainings)
        script = training.truth / "job.sh"
        words = shlex.join(["python3", *training.words])
        script.write_text(SLURM_JOB.format(project=training.project, words=words))
        job = cluster.submit(script)
        taken_s = _seconds(training, lambda: kill(cluster, job))
        cluster.say("scancel", job)
        cluster.wait_for_nodes()
        return taken_s

    return once


def _end_its_node(cluster: Slurm, job: str) -> None:
    """It is switched on again when Slurm has seen that it went."""
    node = cluster.node_of(job)
    cluster.end_node(node)
    wait_until(lambda: cluster.is_down(node), timeout_s=LONGEST_S, message="it is not missed")
    cluster.start_node(node)


def _requeue(cluster: Slurm, job: str) -> None:
    cluster.say("scontrol", "requeue", job)


def _by_hand(root: Path) -> Round:
    """Two machines behind OpenSSH's servers; the loop is at home."""
    numbers = count(1)

    def once() -> float:
        folder = root / str(next(numbers))
        hosts = ("first", "second")
        trainings = [
            Training(folder / host / "project", folder / "truth", pause_s=PAUSE_S) for host in hosts
        ]
        for training in trainings:
            training.write()
            (training.project / CHECKPOINTS).mkdir(parents=True)
        key = make_keypair(folder)
        with ExitStack() as stack:
            machines = [stack.enter_context(Sshd(key.public, home=folder / host)) for host in hosts]
            entries = (HOST.format(host, machine.address.port, machine.address.user, key.private)
                       for host, machine in zip(hosts, machines, strict=True))  # fmt: skip
            (folder / "config").write_text("".join(entries))
            words = shlex.join(["python3", *trainings[0].words])
            script = HAND.format(hosts=" ".join(hosts), folder=folder, words=words)
            loop = subprocess.Popen(["sh", "-c", script], cwd=folder, start_new_session=True,
                                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL)  # fmt: skip
            stack.callback(end_processes, folder)
            stack.callback(_end_group, loop)

            def kill() -> None:
                machines[0].stop()
                end_processes(folder / "first")

            return _seconds(trainings[0], kill)

    return once


def _end_group(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
