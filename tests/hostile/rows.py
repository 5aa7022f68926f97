"""The table of bad inputs. `NEW` rows need a computer that knows nothing yet; `LIVE` rows a runtime that
is up, with one job that has ended (`DONE`)."""

from __future__ import annotations

from pathlib import Path

from tests.hostile.world import (
    JOB_ID,
    Place,
    Row,
    World,
    fifo,
    folder,
    job,
    job_file,
    job_with,
    job_without,
    link,
    row,
    settings_file,
    state,
    state_file,
    state_with,
    state_without,
    toml,
    write,
)

CONNECT = "connect --provider local"
LONG = "x" * 5000
DEEP = "[" * 100_000


def here(name: str) -> Place:
    """A path in the project, as a place."""
    return lambda world: world.project / name


def in_state(name: str) -> Place:
    """A path in the state directory, as a place."""
    return lambda world: world.state / name


def in_ssh(name: str) -> Place:
    """A path in ~/.ssh, as a place."""
    return lambda world: world.ssh / name


COMMAND_LINES = [
    # An option that is none, for every command; and what each has too much or too little of.
    row("init --bogus", 2, "No such option: --bogus"),
    row("connect --bogus", 2, "No such option: --bogus"),
    row("status --bogus", 2, "No such option: --bogus"),
    row("sync --bogus", 2, "No such option: --bogus"),
    row("run --bogus x.py", 125, "No such option: --bogus"),
    row("ps --bogus", 2, "No such option: --bogus"),
    row("logs --bogus", 2, "No such option: --bogus"),
    row("stop --bogus", 2, "No such option: --bogus"),
    row("down --bogus", 2, "No such option: --bogus"),
    row("doctor --bogus", 2, "No such option: --bogus"),
    row("config schema --bogus", 2, "No such option: --bogus"),
    row("config --bogus", 2, "No such option: --bogus"),
    row("auth login --bogus", 2, "No such option: --bogus"),
    row("auth status --bogus", 2, "No such option: --bogus"),
    row("auth logout --bogus", 2, "No such option: --bogus"),
    row("auth terms --bogus", 2, "No such option: --bogus"),
    row("auth login --client nowhere.json", 2, "cannot read the OAuth client nowhere.json"),
    row("auth login --no-browser", 2, "stdin is no terminal"),
    row("auth login x", 2, "unexpected extra argument"),
    row("init a b", 2, "unexpected extra argument"),
    row("sync a", 2, "unexpected extra argument"),
    row("ps a", 2, "unexpected extra argument"),
    row("logs a b", 2, "unexpected extra argument"),
    row("stop a b", 2, "unexpected extra argument"),
    row("down a b", 2, "unexpected extra argument"),
    row("doctor local", 2, "only --bundle takes a file"),
    row("config schema x", 2, "unexpected extra argument"),
    row("stop", 2, "Missing argument 'JOB'"),
    row("sync -r", 2, "requires an argument"),
    row("sync --max-size", 2, "requires an argument"),
    row("sync --prefer", 2, "requires an argument"),
    row("run --env", 125, "requires an argument"),
    row("run --name", 125, "requires an argument"),
    row("run -r", 125, "requires an argument"),
    row("stop x --grace", 2, "requires an argument"),
    row("init --template", 2, "requires an argument"),
    row("status --json=yes", 2, "does not take a value"),
    row("down --all=no", 2, "does not take a value"),
    row("stauts", 2, "No such command 'stauts'"),
    row(("",), 2, "No such command ''"),
    row(("con\nnect",), 2, "No such command"),
    row(("\udcff\udcfe",), 2, "No such command"),
    row(("-",), 2, "No such command '-'"),
    row(("--", "status", "x"), 2, "unexpected extra argument"),
    row((LONG,), 2, "No such command"),
    row("--verbose=1 status", 2, "does not take a value"),
    row("--status", 2, "No such option: --status"),
    row("-v", 2, "No such option: -v"),
    # Values of options.
    row("sync --prefer both", 2, "--prefer takes local or remote, not 'both'"),
    row(("sync", "--prefer", ""), 2, "--prefer takes local or remote, not ''"),
    row("sync --delete", 2, "--delete makes the runtime a mirror of this folder"),
    row("sync --one-way --prefer remote", 2, "--one-way takes nothing from the runtime"),
    row("sync --max-size huge", 2, "'huge' is no size"),
    row("sync --max-size -5", 2, "'-5' is no size"),
    row("sync --max-size 1.5G", 2, "'1.5G' is no size"),
    row("sync --max-size 5X", 2, "'5X' is no size"),
    row(("sync", "--max-size", ""), 2, "'' is no size"),
    row(("sync", "--max-size", "١٠M"), 2, "is no size"),
    row("sync --max-size " + "9" * 40, 2, "is no size"),
    row("stop x --grace nan", 2, "Invalid value for '--grace'"),
    row("stop x --grace inf", 2, "Invalid value for '--grace'"),
    row("stop x --grace -0.1", 2, "Invalid value for '--grace'"),
    row("stop x --grace 1e400", 2, "Invalid value for '--grace'"),
    row("stop x --grace 10s", 2, "Invalid value for '--grace'"),
    row(("connect", "--provider", ""), 2, "unknown provider ''"),
    row(("connect", "--provider", "lo\ncal"), 2, "unknown provider"),
    row(("connect", "--provider", "local", "--python", ""), 2, "cannot use --python"),
    row("connect --provider local --python .", 2, "it is no Python that runs here"),
    row("connect --provider local --python /dev/null", 2, "it is no Python that runs here"),
    row(("connect", "ünïx", "--provider", "local"), 2, "cannot use 'ünïx'"),
    row(("connect", "-", "--provider", "local"), 2, "cannot use '-'"),
    row(("connect", "a*", "--provider", "local"), 2, "cannot use 'a*'"),
    row(("connect", "\udcff", "--provider", "local"), 2, "cannot use '\\udcff'"),
    row(("connect", LONG, "--provider", "local"), 2, "at most 32"),
    # Names that the environment gives.
    row("ssh", 2, "cannot use 'Bad Name'", env={"COLABDEV_NAME": "Bad Name"}),
    row("sync", 1, "no runtime is called 'nobody'", env={"COLABDEV_NAME": "nobody"}),
    row("run true", 125, "no runtime is called 'nobody'", env={"COLABDEV_NAME": "nobody"}),
    row("down", 2, "cannot use '../../x'", env={"COLABDEV_NAME": "../../x"}),
    row("sync -r nobody", 1, "no runtime is called 'nobody'"),
    row("sync -r ../x", 2, "cannot use '../x'"),
    row("ssh -r nobody -- true", 1, "no runtime is called 'nobody'"),
    row("down nobody --dry-run", 1, "no runtime is called 'nobody'"),
    row("down --all nobody --dry-run", 2, "cannot release 'nobody' and all of them"),
    row("doctor --repair nobody", 1, "no runtime is called 'nobody'"),
    row(("doctor", "--repair", ""), 2, "cannot use ''"),
    # Jobs that are none.
    row(("logs", "*"), 1, "no job is called '*'"),
    row(("logs", "a\x1b[2Jb"), 1, "no job is called"),
    row(("logs", LONG), 1, "no job is called"),
    row(("stop", "../../../etc/passwd"), 1, "no job is called"),
    row(("stop", ""), 1, "no job is called ''"),
    row(("stop", "\udcff"), 1, "no job is called"),
    row("logs -f", 1, "no job is known here"),
    row("run --name a/b true", 125, "cannot call a job 'a/b'"),
    row("run --name -x true", 125, "cannot call a job '-x'"),
    row("run --name ünï true", 125, "cannot call a job"),
    row("run --name " + "a" * 41 + " true", 125, "at most 40"),
    row(("run", "--env", "Ü=1", "true"), 125, "cannot set the variable 'Ü'"),
    row(("run", "--env", "1A=x", "true"), 125, "cannot set the variable '1A'"),
    row(("run", "--env", "", "true"), 125, "cannot set the variable ''"),
    row("run --env COLABDEV_ATTEMPT=2 true", 125, "cannot set COLABDEV_ATTEMPT"),
]

INIT = [
    row("init x --template nosuch", 2, "unknown template 'nosuch'"),
    row("init x --template ../minimal", 2, "unknown template '../minimal'"),
    row(("init", "x", "--template", ""), 2, "unknown template ''"),
    row("init", 2, "something is there already", write(here("mine.py"), "x = 1")),
    row("init full", 2, "something is there already", write(here("full/mine.py"), "x = 1")),
    row("init file", 2, "is a file", write(here("file"), "mine")),
    row("init file/below", 1, "File exists", write(here("file"), "mine")),
    row("init dangling", 2, "something is there already", link(here("dangling"), "nowhere")),
    row("init loop/below", 1, "File exists", link(here("loop"), "loop")),
    row("init /", 2, "the root of a disk"),
    row(("init", "a\0b"), 2, "embedded null byte"),
    row("init " + "n" * 300, 2, "File name too long"),
    row("init /proc/nowhere/x", 1, "cannot make the project in /proc/nowhere/x"),
    row("init ../home", 2, "it is your home directory", folder(lambda w: w.house.home / "sub")),
]

SETTINGS = [
    row(CONNECT, 2, "it is not UTF-8 text", toml(b"\xff\xfe[\x00r\x00")),
    row(CONNECT, 2, "is not TOML", toml(b"\x00")),
    row(CONNECT, 2, "is not TOML", toml("[sync]\n[sync]\n")),
    row(CONNECT, 2, "is not TOML", toml("<<<<<<< HEAD\n")),
    row(CONNECT, 2, "is not TOML", toml('{"runtime": {"provider": "local"}}')),
    row(CONNECT, 2, "is not TOML", toml("x = " + DEEP)),
    row(CONNECT, 2, "it is not a file", folder(settings_file)),
    row(CONNECT, 2, "it is not a file", fifo(settings_file)),
    row(CONNECT, 2, "it is not a file", link(settings_file, "nowhere")),
    row("sync", 2, "it is not a file", link(settings_file, "colabdev.toml")),
    row("run true", 125, "it is not a file", link(settings_file, "/dev/null")),
    row(CONNECT, 2, "project = 3: it takes a section", toml("project = 3")),
    row(CONNECT, 2, "it takes a section", toml('[[runtime]]\nprovider = "local"')),
    row(CONNECT, 2, "project.name = 3: it takes a text", toml("[project]\nname = 3")),
    row(CONNECT, 2, "project.name = ''", toml('[project]\nname = ""')),
    row(CONNECT, 2, "cannot use '.'", toml('[project]\nname = "."')),
    row(CONNECT, 2, "cannot use 'sample_data'", toml('[project]\nname = "sample_data"')),
    row(CONNECT, 2, "longer than", toml(f'[project]\nname = "{"x" * 300}"')),
    row(CONNECT, 2, "cannot use 'a\\x00b'", toml('[project]\nname = "a\\u0000b"')),
    row(CONNECT, 2, "runtime.gpu = 'T4': it takes a list", toml('[runtime]\ngpu = "T4"')),
    row(CONNECT, 2, "runtime.gpu.0 = 1: it takes a text", toml("[runtime]\ngpu = [1]")),
    row(CONNECT, 2, "runtime.ttl = 8: it takes a text", toml("[runtime]\nttl = 8")),
    row(CONNECT, 2, "runtime.ttl = '0h'", toml('[runtime]\nttl = "0h"')),
    row(CONNECT, 2, "runtime.ttl = '8 h'", toml('[runtime]\nttl = "8 h"')),
    row(CONNECT, 2, "runtime.max_units = nan", toml("[runtime]\nmax_units = nan")),
    row(CONNECT, 2, "runtime.max_units = inf", toml("[runtime]\nmax_units = inf")),
    row(CONNECT, 2, "runtime.max_units = 0", toml("[runtime]\nmax_units = 0")),
    row(CONNECT, 2, "runtime.max_units = 'x'", toml('[runtime]\nmax_units = "x"')),
    row(CONNECT, 2, "runtime.provider = ''", toml('[runtime]\nprovider = ""')),
    row(CONNECT, 2, "runtime.provider = {'x': 1}", toml("[runtime.provider]\nx = 1")),
    row(
        CONNECT,
        2,
        "runtime.tunnel = 'carrier-pigeon'",
        toml('[runtime]\ntunnel = "carrier-pigeon"'),
    ),
    row(CONNECT, 2, "checkpoints.keep = '3'", toml('[checkpoints]\nkeep = "3"')),
    row(CONNECT, 2, "checkpoints.keep = 3.5", toml("[checkpoints]\nkeep = 3.5")),
    row(CONNECT, 2, "checkpoints.keep = True", toml("[checkpoints]\nkeep = true")),
    row(CONNECT, 2, "checkpoints.accept = 'maybe'", toml('[checkpoints]\naccept = "maybe"')),
    row(CONNECT, 2, "checkpoints.stores.0 = 's3'", toml('[checkpoints]\nstores = ["s3"]')),
    row("sync", 2, "sync.exclude = 'x': it takes a list", toml('[sync]\nexclude = "x"')),
    row("sync", 2, "sync.outputs.0 = 1", toml("[sync]\noutputs = [1]")),
    row("sync", 2, "did you mean 'exclude'?", toml('[sync]\nexlude = ["x"]')),
    row("run true", 125, "job.env.A = 1: it takes a text", toml("[job]\nenv = {A = 1}")),
    row("run true", 125, "cannot set the variable 'A B'", toml('[job]\nenv = {"A B" = "secret"}')),
    row("run true", 125, "cannot set the variable ''", toml('[job]\nenv = {"" = "secret"}')),
    row("run true", 125, "cannot set COLABDEV_JOB", toml('[job]\nenv = {COLABDEV_JOB = "x"}')),
    row(
        "run true", 125, "cannot set the variable 'A'", toml('[job]\nenv = {A = "a\\u0000secret"}')
    ),
    row("run true", 125, "job.requirements = []", toml("[job]\nrequirements = []")),
]

_BAD = "cannot read the state of 'local'"

STATE = [
    row("status", 15, "it is not JSON", state("")),
    row("ssh", 15, "it is not JSON", state('{"schema": 1')),
    row("down", 15, "it is not text", state(b"\xff\xfe\x00")),
    row("down --all", 15, "it is not JSON", state(b"\x00" * 4096)),
    row("sync", 15, "it is not a JSON object", state("null")),
    row("run true", 125, "it is not a JSON object", state('"local"')),
    row(CONNECT, 15, "it is not JSON", state(DEEP)),
    row("down local", 15, "schema '1'", state_with(schema="1")),
    row("status", 15, "schema None", state_with(schema=None)),
    row("status", 15, "schema 2; this colabdev reads 1", state_with(schema=2)),
    row("status", 15, "it is about 'other'", state_with(name="other")),
    row("status", 15, "3 is not a string", state_with(name=3)),
    row("status", 15, "it lacks 'created'", state_without("created")),
    row("status", 15, "it lacks 'machine'", state_without("machine")),
    row("status", 15, "it lacks 'projects'", state_without("projects")),
    row("status", 15, "Invalid isoformat", state_with(created="yesterday")),
    row("status", 15, "makes no sense", state_with(created="9999-99-99T00:00:00Z")),
    row("status", 15, "makes no sense", state_with(created=1_700_000_000)),
    row("status", 15, "makes no sense", state_with(created="2026-11-20T10:00:00")),
    row("status", 15, "'asleep' is not a valid Phase", state_with(phase="asleep")),
    row("status", 15, "makes no sense", state_with(phase=[])),
    row("status", 15, "it lacks 'host'", state_with(machine={})),
    row("status", 15, "makes no sense", state_with(machine=[])),
    row("status", 15, "0 is not a port", state_with(machine={"port": 0})),
    row("status", 15, "is not a port", state_with(machine={"port": 10**400})),
    row("status", 15, "'22' is not an integer", state_with(machine={"port": "22"})),
    row("status", 15, "None is not a string", state_with(machine={"host": None})),
    row("down", 15, "-1 is not a process id", state_with(keeper={"pid": -1})),
    row("down", 15, "0 is not a process id", state_with(keeper={"pid": 0})),
    row("down", 15, "True is not an integer", state_with(keeper={"pid": True})),
    row("down", 15, "not 32 bytes in hex", state_with(keeper={"key": "00"})),
    row("down", 15, "65536 is not a port", state_with(keeper={"port": 65536})),
    row("status", 15, "is not a list", state_with(projects={})),
    row("status", 15, "makes no sense", state_with(projects=[1])),
    row("status", 15, "it lacks 'workdir'", state_with(projects=[{"path": "/x"}])),
    row("status", 15, "7 is not a string", state_with(python=7)),
    row("status", 15, "Is a directory", folder(state_file)),
    row("down --all", 15, "Too many levels", link(state_file, "local.json")),
    row("status", 15, "its link leads nowhere", link(state_file, "/nowhere/local.json")),
    row(CONNECT, 15, "its link leads nowhere", link(state_file, "/nowhere/local.json")),
    row(
        "doctor --repair local",
        1,
        "cannot ask its provider, 'notebook'",
        state('{"provider": "notebook"}'),
    ),
    row("status", 15, "cannot list", write(in_state("runtimes"), "a file")),
    row("ps", 15, "cannot list", write(in_state("jobs"), "a file")),
    row("logs", 15, "cannot list", write(in_state("jobs"), "a file")),
    row("ssh", 15, "cannot list", link(in_state("runtimes"), "runtimes")),
    row("status", 15, "cannot list", link(in_state("runtimes"), "/nowhere")),
    row(CONNECT, 1, "cannot write colabdev's state", write(in_state("locks"), "a file")),
    row("down", 15, "cannot list", link(in_state(""), "/nowhere")),
    row("logs", 15, "cannot list", link(in_state("jobs"), "/nowhere")),
    row("status", 15, "cannot list", env={"COLABDEV_STATE_DIR": "/dev/null"}),
    row("status", 15, "File name too long", env={"COLABDEV_STATE_DIR": "/" + "d" * 300}),
    row(CONNECT, 1, "cannot write colabdev's state", env={"COLABDEV_STATE_DIR": "/proc/x"}),
    row(CONNECT, 1, "cannot write colabdev's state", env={"COLABDEV_STATE_DIR": "/sys/x"}),
    row(
        "status",
        1,
        "cannot tell where your home directory is",
        env={"COLABDEV_STATE_DIR": "~nobody-here/x"},
    ),
    row(
        "status",
        1,
        "cannot tell where your home directory is",
        env={"COLABDEV_SSH_CONFIG": "~no-one/x"},
    ),
]

JOBS = [
    row("ps", 15, JOB_ID, job("")),
    row("ps", 15, JOB_ID, job(b"\xff")),
    row("ps", 15, JOB_ID, job(DEEP)),
    row("logs", 15, "it is not a JSON object", job("[]")),
    row("stop train", 15, "it has schema 2", job_with(schema=2)),
    row("logs train", 15, "it lacks or mangles 'id'", job_without("id")),
    row("ps", 15, "it lacks or mangles 'runtime'", job_without("runtime")),
    row("ps", 15, "it is about 'other-261120-abcd'", job_with(id="other-261120-abcd")),
    row("logs", 15, "it is about '../../x'", job_with(id="../../x")),
    row("ps", 15, "mangles 'train.py'", job_with(argv="train.py")),
    row("ps", 15, "mangles 1", job_with(argv=[1])),
    row("ps", 15, "mangles None", job_with(argv=None)),
    row("ps", 15, "Invalid isoformat", job_with(created="soon")),
    row("ps", 15, JOB_ID, job_with(created=None)),
    row("ps", 15, "'asleep' is not a valid JobState", job_with(state="asleep")),
    row("ps", 15, "mangles '0'", job_with(exit_code="0")),
    row("ps", 15, "mangles True", job_with(exit_code=True)),
    row("logs", 15, "mangles -1", job_with(attempt=-1)),
    row("logs", 15, "mangles 1.5", job_with(attempt=1.5)),
    row("logs", 15, "mangles -5", job_with(log_bytes=-5)),
    row("ps", 15, "mangles '../x'", job_with(runtime="../x")),
    row("ps", 15, JOB_ID, job_with(started=5)),
    row("ps", 15, "Is a directory", folder(job_file)),
    row("stop train", 15, "Too many levels", link(job_file, "job.json")),
    row(
        "logs",
        15,
        "cannot read the log",
        job_with(state="succeeded", log_bytes=3),
        folder(lambda w: job_file(w).with_name("log")),
    ),
    row("logs", 12, "0 of 9 bytes of its log are here", job_with(state="succeeded", log_bytes=9)),
]

SSH = [
    row(CONNECT, 1, ".ssh: File exists", write(lambda w: w.ssh, "a file")),
    row(CONNECT, 1, "colabdev: File exists", write(in_ssh("colabdev"), "a file")),
    row(CONNECT, 1, "cannot read the SSH host entry", folder(in_ssh("colabdev/config"))),
    row(CONNECT, 1, "SSH host entry", link(in_ssh("colabdev"), "/nowhere/at/all")),
    row(
        CONNECT,
        2,
        "is taken by your own SSH configuration",
        write(in_ssh("config"), "Host local\n"),
    ),
    row(CONNECT, 2, "is taken by your own", write(in_ssh("config"), b"\thOsT=a local\r\n")),
    row(
        CONNECT,
        2,
        "is taken by your own",
        write(in_ssh("config"), "Include more\n"),
        write(in_ssh("more"), "Host x local\n"),
    ),
    row(
        CONNECT, 2, "OpenSSH cannot read line ends", env={"COLABDEV_SSH_CONFIG": "/tmp/a\nb/config"}
    ),
    row(
        CONNECT,
        2,
        "OpenSSH cannot read line ends",
        env={"COLABDEV_SSH_CONFIG": "/tmp/${HOME}/config"},
    ),
    row(
        CONNECT, 1, "cannot write the SSH host entry", env={"COLABDEV_SSH_CONFIG": "/proc/x/config"}
    ),
]

NEW: list[Row] = [*COMMAND_LINES, *INIT, *SETTINGS, *STATE, *JOBS, *SSH]

DONE = "done"


def _escape(world: World) -> Path:
    return world.project / "out.py"


LIVE: list[Row] = [
    row("run nowhere.py", 125, "there is no such file"),
    row(("run", "no\nwhere.py"), 125, "there is no such file"),
    row(("run", "\udcff.py"), 125, "there is no such file"),
    row(("run", "n" * 300 + ".py"), 125, "File name too long"),
    row(("run", "/" * 5000 + "x.py"), 125, "outside of the project"),
    row("run pipe.py", 125, "it is not a file", fifo(here("pipe.py"))),
    row("run gone.py", 125, "there is no such file", link(here("gone.py"), "nowhere.py")),
    row("run loop.py", 125, "Too many levels", link(here("loop.py"), "loop.py")),
    row("run dir.py", 125, "it is a directory", folder(here("dir.py"))),
    row("run null.py", 125, "it is not a file", link(here("null.py"), "/dev/null")),
    row("run out.py", 125, "sync does not send it: ", link(_escape, "/etc/hostname")),
    row(
        "run big.py",
        125,
        "sync does not send it: it is ignored",
        write(here("big.py"), b"#" * 1001),
        write(here(".colabdevignore"), "big.py\n"),
    ),
    row(
        "run note.ipynb", 125, "notebooks are not in this version", write(here("note.ipynb"), "{}")
    ),
    row("run .", 125, "it is a directory"),
    row("run ..", 125, "it is a directory"),
    row("run ./", 125, "it is a directory"),
    row("run -m", 125, "requires an argument"),
    row("run --no-sync x.py", 125, "not on the runtime", write(here("x.py"), "print()")),
    row("run -r local --no-sync -- nowhere/prog", 125, "not on the runtime"),
    row(("logs", DONE + "-999999-zzzz"), 1, "no job is called"),
    row("stop nobody --grace 0", 1, "no job is called 'nobody'"),
    row("sync", 2, "sync.exclude.0", toml('[sync]\nexclude = ["a\\u0000b"]')),
    row("sync", 14, "it belongs to", toml('[project]\nname = "project"')),
    row("run true", 125, "it belongs to", toml('[project]\nname = "project"')),
    row(
        "connect local --provider local --python /usr/bin/env", 2, "it is no Python that runs here"
    ),
    row("ssh", 1, "cannot start ssh: it is not installed", env={"PATH": "/nowhere"}),
    row("ssh local -- true", 1, "cannot start ssh: it is not installed", env={"PATH": ""}),
]
