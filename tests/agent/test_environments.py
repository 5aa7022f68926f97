"""What jobs require, installed by pip and by uv, from wheels that lie here."""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from colabdev.agent import environments, interpreter, jobdir
from tests.agent.test_jobs import PYTHONS, Bench, make_bench
from tests.support.waiting import wait_until
from tests.support.wheels import make_wheel, put_in

UV = Path(sys.executable).with_name("uv")
SHOW = "import tool, torch; print(tool.__version__, torch.__version__)"


@pytest.fixture(params=["pip", "uv"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """A machine whose Python has a torch of its own kind, and some wheels."""
    bench = make_bench(tmp_path, machine_python(tmp_path / "machine"))
    if request.param == "uv":
        (tmp_path / "bin" / "uv").symlink_to(UV)
    make_wheel(tmp_path / "wheels", "tool", "1.5", requires=["torch>=2"])
    make_wheel(tmp_path / "wheels", "torch", "9.9")
    yield bench
    bench.close()


def machine_python(place: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    packages = next(place.glob("lib/python3*/site-packages"))
    put_in(packages, "torch", "2.5.1+cu999")
    (packages / "ours.pth").write_text(str(Path(pytest.__file__).parents[1]))  # Has pip.
    return place / "bin" / "python3"


def requiring(bench: Bench, *lines: str, show: str = SHOW) -> dict[str, object]:
    """A job that shows what it imports; the lines are what it requires."""
    found = f"--no-index\n--find-links {bench.root / 'wheels'}\n"
    (bench.workdir / "requirements.txt").write_text(found + "\n".join(lines) + "\n")
    (bench.workdir / "show.py").write_text(show)
    asked = {"name": "requirements.txt", "file": "requirements.txt", "lines": []}
    return {**bench.spec("show.py", kind=jobdir.PYTHON), "requirements": asked}


def made(bench: Bench) -> list[Path]:
    return [path for path in (bench.jobs.parent / "environments").iterdir() if path.is_dir()]


def test_requirements_are_installed_once_and_the_machines_torch_stays(bench: Bench) -> None:
    log, status = bench.finish(requiring(bench, "tool"))
    assert status["exit_code"] == 0, log.decode()
    assert log.startswith(b"colabdev: installing requirements.txt with ")
    assert log.endswith(b"1.5 2.5.1+cu999\n"), log.decode()
    assert b"already satisfied" not in log, log.decode()
    assert b"tool-1.5" in log or b"tool==1.5" in log, "what was installed is said"
    log, _ = bench.finish(requiring(bench, "tool"))
    assert log == b"1.5 2.5.1+cu999\n"
    log, _ = bench.finish(requiring(bench, "tool", "torch==9.9"))
    assert log.endswith(b"1.5 9.9\n"), log.decode()
    assert len(made(bench)) == 2


def test_jobs_that_start_together_install_once(bench: Bench) -> None:
    specs = [requiring(bench, "tool") for _ in range(3)]
    talks = [bench.talk() for _ in specs]
    for talk, spec in zip(talks, specs, strict=True):
        talk.request("job.start", spec=spec, follow=True)
    logs = [talk.rest()[0].decode() for talk in talks]
    assert sum("installing" in log for log in logs) == 1
    assert all(log.endswith("1.5 2.5.1+cu999\n") for log in logs), logs


def test_install_that_fails_leaves_nothing_and_says_why(bench: Bench) -> None:
    log, status = bench.finish(requiring(bench, "tool", "missing-tool"))
    assert (status["state"], status["exit_code"], status["started"]) == ("failed", 125, None)
    assert b"missing-tool" in log
    assert log.splitlines()[-1].startswith(b"colabdev: cannot install requirements.txt: ")
    assert made(bench) == []
    make_wheel(bench.root / "wheels", "missing-tool", "1.0")
    log, status = bench.finish(requiring(bench, "tool", "missing-tool"))
    assert status["exit_code"] == 0, log.decode()


def test_install_that_is_stopped_is_made_anew(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hanging = f"--index-url http://127.0.0.1:{silent.getsockname()[1]}/simple"
        spec = requiring(bench, hanging, "slow-tool")
        (bench.workdir / "requirements.txt").write_text(f"{hanging}\nslow-tool\n")
        talk = bench.talk()
        talk.request("job.start", spec=spec)
        silent.settimeout(30)
        silent.accept()[0].close()
        status = talk.request("job.status", id=spec["id"])["status"]
        assert (status["state"], status["started"]) == ("starting", None)
        assert talk.request("job.stop", id=spec["id"], grace_s=5)["status"]["state"] == "stopped"
    [directory] = made(bench)
    assert not (directory / "whole").exists()
    lock = directory.with_suffix(".lock")
    wait_until(lambda: is_free(lock), message="the installer is gone, too")
    log, _ = bench.finish(requiring(bench, "tool"))
    assert log.endswith(b"1.5 2.5.1+cu999\n"), log.decode()


def is_free(lock: Path) -> bool:
    done = subprocess.run(["flock", "--nonblock", lock, "true"], check=False)
    return done.returncode == 0


def test_oldest_python_installs_by_pip(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, PYTHONS["3.8"])
    make_wheel(tmp_path / "wheels", "tool", "1.5")
    try:
        show = "import sys, tool; print(tool.__version__, sys.version_info[1])"
        log, status = bench.finish(requiring(bench, "tool", show=show))
        assert status["exit_code"] == 0, log.decode()
        assert log.endswith(b"1.5 8\n")
    finally:
        bench.close()


def test_requirements_that_the_runtime_lacks_are_refused(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, Path(sys.executable))
    spec = requiring(bench, "tool")
    (bench.workdir / "requirements.txt").unlink()
    with pytest.raises(
        Exception, match=r"cannot install 'requirements.txt': it is not on the runtime"
    ):
        bench.finish(spec)
    bench.close()


def test_python_without_an_installer_is_said(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    bench = make_bench(tmp_path, bare / "bin" / "python3")
    program = bench.root / "bin" / "python3"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(str(bare / "bin" / "python3"))} "$@"\n')
    try:
        log, status = bench.finish(requiring(bench, "tool"))
        assert status["exit_code"] == 125
        assert b"the runtime has neither uv nor pip" in log
    finally:
        bench.close()


@pytest.mark.parametrize(
    ("line", "another"),
    [
        ("torch", False),
        ("Torch>=2.1  # any", False),
        ("torch[extra]==2.5.1", False),
        ("torch==2.5.1+cu999", False),
        ("torch==9.9 ; python_version < '3'", False),
        ("torchvision==9.9", False),
        ("-r torch==9.9", False),
        ("", False),
        ("torch==2.5.1+cpu", True),
        ("torch<2", True),
        ("torch @ https://example.com/torch.whl", True),
    ],
)
def test_torch_is_replaced_only_for_one_who_asks_for_another(line: str, another: bool) -> None:
    assert interpreter.asks_for_another(line, "torch", "2.5.1+cu999") == another


# --- the key -------------------------------------------------------------------------------------


def key(tmp_path: Path, *, tree: str = "tree", **python: object) -> str:
    below: dict[str, object] = {"kept": {}, "installed": {"numpy": "2.0"}}
    told = {"version": "3.12", "prefix": "/usr", "machine": "linux-x86_64", **below, **python}
    file = str(tmp_path / "requirements.txt")
    return environments.key_of(environments.Wanted("r", file, [], "/work", tree), told)


def test_key_depends_on_the_contents_the_included_files_and_the_python(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("-r more.txt\ntool\n--constraint=pins.txt\n")
    (tmp_path / "more.txt").write_text("-r requirements.txt\nother\n")
    (tmp_path / "pins.txt").write_text("tool<2\n")
    keys = [key(tmp_path), key(tmp_path, version="3.13"), key(tmp_path, prefix="/opt")]
    keys += [key(tmp_path, machine="linux-aarch64")]
    # pip counts on what is there already.
    keys += [key(tmp_path, installed={"numpy": "2.1"}), key(tmp_path, installed={})]
    assert key(tmp_path, tree="another") == keys[0]
    for name in ("more.txt", "pins.txt", "requirements.txt"):
        with (tmp_path / name).open("a") as file:
            file.write("more\n")
        keys.append(key(tmp_path))
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("line", "is_local"),
    [
        ("-e .", True),
        ("./wheels/tool.whl", True),
        ("tool @ file:///content/tool", True),
        ("/content/tool", True),
        ("tool-1.0-py3-none-any.whl", True),
        ("tool==1.0  # see ./notes", False),
        ("tool[extra]>=1", False),
        ("tool @ https://example.com/tool.whl", False),
    ],
)
def test_key_depends_on_the_projects_files_when_they_are_named(
    tmp_path: Path, line: str, is_local: bool
) -> None:
    (tmp_path / "requirements.txt").write_text(line + "\n")
    assert (key(tmp_path) != key(tmp_path, tree="another")) == is_local
