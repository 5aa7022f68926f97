"""One rented machine, seen from outside: namespaces of this computer that die whole.

Its first process (`machine_init.py`) is PID 1 of its own PID namespace: when that ends, the kernel
kills every process of the machine, daemons included. It ends when its stdin does, which the server
holds: a server that was killed leaves nothing. Its disk is a tmpfs in its own mount namespace, over
this computer's files, and goes with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from colabdev.providers.processes import descendants, list_processes
from tests.support.colab_server.hardware import Hardware

BOOT_TIMEOUT_S = 60.0
END_TIMEOUT_S = 10.0
_POLL_S = 0.02
_HERE = Path(__file__).parent
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

RUN_DIRECTORY = "run"
"""Below the machine's directory: it is `/run/colab` of the machine, and holds its sockets."""

DRIVE_DIRECTORY = "drive"
"""Likewise: what `drive.mount` mounts."""


class Machine:
    """Running from `start` to `stop`, or until it dies by itself."""

    def __init__(self, directory: Path, endpoint: str, hardware: Hardware) -> None:
        self._directory = directory
        self._endpoint = endpoint
        self._hardware = hardware
        self._process: asyncio.subprocess.Process | None = None
        self._run_handle = -1
        self.drive = directory / DRIVE_DIRECTORY

    @property
    def log(self) -> Path:
        return self._directory / "log"

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self, environment: Mapping[str, str], *, boot_delay_s: float) -> None:
        """Start it; it answers once `wait_ready` returned."""
        for name in (RUN_DIRECTORY, DRIVE_DIRECTORY, "disk"):
            (self._directory / name).mkdir(parents=True)
        spec = self._directory / "spec.json"
        spec.write_text(json.dumps({**self._spec(environment), "boot_delay_s": boot_delay_s}))
        self._run_handle = os.open(self._directory / RUN_DIRECTORY, os.O_PATH | os.O_DIRECTORY)
        with self.log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child"),
                *(sys.executable, "-I", "-S", str(_HERE / "machine_init.py"), str(spec)),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def socket(self, name: str) -> str:
        """The path of one of its sockets: `jupyter` or `ssh`. Short, however long the state
        directory's is: a socket's path has at most 107 bytes."""
        return f"/proc/self/fd/{self._run_handle}/{name}.sock"

    async def wait_ready(self) -> None:
        """Until its Jupyter server listens; TimeoutError, or ConnectionError when it died."""
        async with asyncio.timeout(BOOT_TIMEOUT_S):
            while not await self._listens():
                if not self.alive:
                    raise ConnectionError(f"the machine died: {self._last_words()}")
                await asyncio.sleep(_POLL_S)

    def authorize(self, public_key: str) -> None:
        """Let the owner of this key log in, and nobody else."""
        keys = self._directory / RUN_DIRECTORY / "authorized_keys"
        keys.write_text(public_key + "\n")

    def kernel_pids(self) -> list[int]:
        """Its kernels, as processes of this computer."""
        assert self._process is not None
        family = descendants({self._process.pid}, list_processes())
        return sorted(
            process.pid for process in family if b"ipykernel_launcher" in _command_line(process.pid)
        )

    def crash_kernels(self) -> int:
        """Kill its kernels; returns how many there were."""
        pids = self.kernel_pids()
        for pid in pids:
            _kill(pid)
        return len(pids)

    async def unmount_drive(self, mountpoint: str) -> None:
        """Take Drive away under the user, as when its process dies."""
        init = self._init_pid()
        if init is not None:
            unmounting = ["nsenter", "-t", str(init), "-m", "-p", "-r", "umount", "-l", mountpoint]
            process = await asyncio.create_subprocess_exec(*unmounting)
            await process.wait()

    async def stop(self) -> None:
        """End everything in it, and only then return. Harmless twice."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            # `unshare` waits for its child, and the kernel keeps that one until the last process of
            # its namespace is gone.
            # A machine that was only just started has no PID 1 yet, hence more than one try.
            ended = asyncio.ensure_future(process.wait())
            async with asyncio.timeout(END_TIMEOUT_S):
                while not ended.done():
                    _kill(self._init_pid())
                    await asyncio.wait([ended], timeout=_POLL_S)
        if self._run_handle >= 0:
            os.close(self._run_handle)
            self._run_handle = -1
        await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)

    def _last_words(self) -> str:
        # With the machine goes its log.
        with contextlib.suppress(OSError):
            return self.log.read_text(errors="replace")[-2000:]
        return "it was ended"

    def _init_pid(self) -> int | None:
        assert self._process is not None
        parent = self._process.pid
        return next((row.pid for row in list_processes() if row.parent == parent), None)

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_unix_connection(self.socket("jupyter"))
        except OSError:
            return False
        writer.close()
        return True

    def _spec(self, environment: Mapping[str, str]) -> dict[str, object]:
        prefixes = {os.path.realpath(path) for path in (sys.prefix, sys.base_prefix)}
        sshd = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}")
        return {
            "directory": str(self._directory),
            "hostname": self._endpoint,
            "python": os.path.abspath(sys.executable),
            "visible": sorted(prefixes),
            "sshd": sshd,
            "kernel_site": str(_HERE / "kernel_site"),
            "gpu": {
                "name": self._hardware.accelerator.device,
                "memory_mib": self._hardware.accelerator.memory_mib,
            }
            if self._hardware.accelerator.variant == "GPU"
            else None,
            "environment": {**self._environment(), **environment},
        }

    def _environment(self) -> dict[str, str]:
        return {
            "HOME": "/root",
            "USER": "root",
            "SHELL": "/bin/bash",
            "LANG": "C.UTF-8",
            "PATH": f"{os.path.dirname(os.path.abspath(sys.executable))}:{_SYSTEM_PATH}",
            "PYTHONPATH": "/env/python",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            "COLAB_GPU": "1" if self._hardware.accelerator.variant == "GPU" else "",
            "COLAB_RELEASE_TAG": "release-colab-stand-in",
            "CLOUDSDK_CONFIG": "/content/.config",
            "USE_AUTH_EPHEM": "1",
        }


def _command_line(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _kill(pid: int | None) -> None:
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
