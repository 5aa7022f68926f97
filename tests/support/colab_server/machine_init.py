"""PID 1 of a machine: `python -I -S machine_init.py SPEC`, in namespaces of its own.

Builds the machine's file system, starts its Jupyter server, gives each connection on `ssh.sock` an
sshd, collects what dies, and ends when its stdin does; the kernel then kills the rest. Standard
library only: it starts in the time that the machine's user waits.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

RUN = "/run/colab"
MOUNT_VIEW = "/opt/google/drive/view"
"""What `drive.mount` mounts, where its user wants it."""
JUPYTER_CONFIG = "/etc/colab/jupyter_server_config.json"
SSHD_CONFIG = "/etc/colab/sshd_config"
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
_REAP_INTERVAL_S = 1.0


def main(spec: dict[str, Any]) -> None:
    socket.sethostname(spec["hostname"])
    root = build_root(spec)
    enter(root)
    fill(spec)
    start_jupyter(spec)
    serve(spec)


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def build_root(spec: dict[str, Any]) -> Path:
    """The file system of this computer with a private layer over it, which is in memory; without
    what is in this computer's own home, temporary and run directories."""
    base = Path(spec["directory"])
    disk = base / "disk"
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", disk)
    root, upper, work = disk / "root", disk / "upper", disk / "work"
    for directory in (root, upper, work):
        directory.mkdir()
    layers = f"lowerdir=/,upperdir={upper},workdir={work}"
    mount("-t", "overlay", "-o", layers, "overlay", root)
    mount("-t", "proc", "proc", root / "proc")
    for name in ("dev", "sys"):
        mount("--rbind", f"/{name}", root / name)
    for name, mode in (("tmp", "1777"), ("dev/shm", "1777"), ("run", "755"), ("root", "700")):
        mount("-t", "tmpfs", "-o", f"mode={mode}", "tmpfs", root / name)
    # A Python that lives in what was just hidden, or on another disk.
    for path in (*spec["visible"], spec["kernel_site"]):
        show(path, root)
    for source, target in (("run", RUN), ("drive", MOUNT_VIEW)):
        place = root / target[1:]
        place.mkdir(parents=True)
        mount("--bind", base / source, place)
    return root


def show(path: str, root: Path) -> None:
    place = root / path[1:]
    if not (place.is_dir() and any(place.iterdir())):
        place.mkdir(parents=True, exist_ok=True)
        mount("--bind", path, place)
        mount("-o", "remount,bind,ro", place)


def enter(root: Path) -> None:
    """Make `root` the root, and forget the old one."""
    os.chdir(root)
    Path("old").mkdir()
    subprocess.run(["pivot_root", ".", "old"], check=True)
    os.chdir("/")
    subprocess.run(["umount", "-l", "/old"], check=True)
    Path("/old").rmdir()


def fill(spec: dict[str, Any]) -> None:
    """What a machine of Colab's has that this computer has not."""
    for directory in ("/content/sample_data", "/var/colab", "/etc/colab", "/etc/ipython"):
        os.makedirs(directory)
    write("/var/colab/hostname", spec["hostname"] + "\n")
    shutil.copytree(spec["kernel_site"], "/env/python")
    write("/etc/ipython/ipython_config.py", KERNEL_CONFIG)
    write(JUPYTER_CONFIG, json.dumps(JUPYTER_SETTINGS))
    if spec["gpu"] is not None:
        write("/usr/bin/nvidia-smi", nvidia_smi(spec["gpu"]), mode=0o755)
    make_host_key()
    write(SSHD_CONFIG, SSHD_SETTINGS)
    os.makedirs("/run/sshd", mode=0o755)


def make_host_key() -> None:
    """A machine's own; this computer's are not to be seen in it."""
    os.makedirs("/etc/ssh", exist_ok=True)
    for key in Path("/etc/ssh").glob("ssh_host_*"):
        key.unlink()
    making = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", HOST_KEY]
    subprocess.run(making, check=True)


def start_jupyter(spec: dict[str, Any]) -> None:
    server = [spec["python"], "-c", JUPYTER_SERVER, f"--config={JUPYTER_CONFIG}"]
    waiting = f'sleep {spec["boot_delay_s"]}; exec "$@"'
    subprocess.Popen(
        ["sh", "-c", waiting, "sh", *server] if spec["boot_delay_s"] else server,
        stdin=subprocess.DEVNULL,
        cwd="/content",
        env=spec["environment"],
        start_new_session=True,
    )


def serve(spec: dict[str, Any]) -> None:
    """Until stdin ends."""
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as selector:
        listener.bind(f"{RUN}/ssh.sock")
        listener.listen()
        selector.register(listener, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            events = selector.select(_REAP_INTERVAL_S)
            reap()
            for key, _ in events:
                if key.fileobj is sys.stdin:
                    if not os.read(0, 4096):
                        return
                else:
                    give_sshd(listener, spec["sshd"])


def reap() -> None:
    """Orphans become children of PID 1; nobody here asks how they ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def give_sshd(listener: socket.socket, program: str | None) -> None:
    connection, _ = listener.accept()
    with connection, contextlib.suppress(OSError):
        if program is not None:
            subprocess.Popen(
                [program, "-i", "-f", SSHD_CONFIG, "-E", "/var/log/sshd.log"],
                stdin=connection.fileno(),
                stdout=connection.fileno(),
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
                cwd="/",
                start_new_session=True,
            )


def write(path: str, text: str, mode: int = 0o644) -> None:
    file = Path(path)
    # A link would lead to what it points to, such as an alternative of Debian's.
    file.unlink(missing_ok=True)
    file.write_text(text)
    file.chmod(mode)


def nvidia_smi(gpu: dict[str, Any]) -> str:
    return NVIDIA_SMI.replace("@NAME@", gpu["name"]).replace("@MEMORY@", str(gpu["memory_mib"]))


# One library of many that check formats of configuration takes longer to import than all the rest,
# and is done without where it is not installed.
JUPYTER_SERVER = """\
import sys
sys.modules["rfc3987_syntax"] = None
from jupyter_server.serverapp import main
main()
"""

JUPYTER_SETTINGS = {
    "ServerApp": {
        "sock": f"{RUN}/jupyter.sock",
        "allow_root": True,
        "allow_remote_access": True,
        "allow_origin": "*",
        "disable_check_xsrf": True,
        "open_browser": False,
        "root_dir": "/",
        "jpserver_extensions": {"jupyter_server_terminals": True},
        "terminado_settings": {
            "shell_command": ["/bin/bash", "-c", "cd /content && exec /bin/bash -i"]
        },
    },
    "IdentityProvider": {"token": ""},
    "FileContentsManager": {"delete_to_trash": False, "always_delete_dir": False},
    "ContentsManager": {"allow_hidden": True},
}

KERNEL_CONFIG = """\
c = get_config()
c.InteractiveShellApp.exec_lines = ["import os; os.chdir('/content'); del os"]
"""

SSHD_SETTINGS = f"""\
HostKey {HOST_KEY}
AuthorizedKeysFile {RUN}/authorized_keys
PidFile none
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
StrictModes no
PrintMotd no
PrintLastLog no
Subsystem sftp internal-sftp
MaxSessions 200
UseDNS no
"""

NVIDIA_SMI = """\
#!/bin/sh
# A stand-in: this machine has no GPU. It says what was assigned.
name='@NAME@' memory='@MEMORY@' driver=580.82.07
case "$*" in
*--query-gpu=*)
    for word in "$@"; do
        case $word in
        --query-gpu=*) fields=${word#--query-gpu=} ;;
        --format=*) format=${word#--format=} ;;
        esac
    done
    unit=' MiB'
    case ,$format, in *,nounits,*) unit= ;; esac
    line=
    for field in $(printf %s "$fields" | tr ',' ' '); do
        case $field in
        name | gpu_name) value=$name ;;
        memory.total) value=$memory$unit ;;
        memory.free) value=$memory$unit ;;
        memory.used) value=0$unit ;;
        driver_version) value=$driver ;;
        index | count) value=0 ;;
        *) value='[N/A]' ;;
        esac
        line="$line${line:+, }$value"
    done
    case ,$format, in *,noheader,*) ;; *) printf '%s\\n' "$fields" ;; esac
    printf '%s\\n' "$line"
    ;;
-L) printf 'GPU 0: %s (UUID: GPU-00000000-0000-0000-0000-000000000000)\\n' "$name" ;;
*)
    printf 'NVIDIA-SMI %s (stand-in: no GPU is here)   Driver Version: %s   CUDA Version: 13.0\\n' \\
        "$driver" "$driver"
    printf '|   0  %s   |      0MiB / %sMiB |\\n' "$name" "$memory"
    ;;
esac
"""


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
