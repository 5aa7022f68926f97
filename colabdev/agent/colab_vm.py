"""Sets a Colab VM up: run in its kernel, as text, by `core/bootstrap.py`. Run twice it has run once.

Starts an SSH server of our own that listens on 127.0.0.1 only and takes keys only, gives its sessions
the kernel's environment, without which there is no GPU in them, and tells the host keys.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from typing import Any, Callable, Dict, List

HOME = "/opt/colabdev"
ENVIRONMENT_FILE = "~/.colabdev/environment.json"
_START_TIMEOUT_S = 20.0
_POLL_S = 0.05
_PASSED_ON = (
    "PATH",
    "LD_LIBRARY_PATH",
    "LIBRARY_PATH",
    "PYTHONPATH",
    "LANG",
    "CUDA_VERSION",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
    "COLAB_GPU",
    "COLAB_RELEASE_TAG",
    "COLAB_TPU_ADDR",
    "TPU_NAME",
    "TPU_WORKER_ID",
    "TPU_ACCELERATOR_TYPE",
    "TBE_RUNTIME_ADDR",
    "TBE_EPHEM_CREDS_ADDR",
)
"""None of these is a secret; the kernel's environment has some."""
_DEFAULTS = {
    "LD_LIBRARY_PATH": "/usr/lib64-nvidia",
    "PATH": "/usr/local/cuda/bin:/usr/local/nvidia/bin:/opt/bin",
}

CONFIG = """\
# Written by colabdev.
Port {port}
ListenAddress 127.0.0.1
HostKey {home}/host_key
AuthorizedKeysFile {home}/authorized_keys
PidFile {home}/sshd.pid
UsePAM no
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
StrictModes no
AllowTcpForwarding yes
X11Forwarding no
PrintMotd no
UseDNS no
MaxSessions 200
MaxStartups 200
Subsystem sftp internal-sftp
SetEnv {environment}
"""


def main(settings: Dict[str, Any]) -> Dict[str, Any]:
    """Every step with its time; returns where the server listens and the host keys."""
    steps: List[Any] = []

    def step(name: str, work: Callable[[], Any]) -> Any:
        begun = time.monotonic()
        result = work()
        steps.append([name, round(time.monotonic() - begun, 3)])
        return result

    os.makedirs(HOME, mode=0o700, exist_ok=True)
    program = step("OpenSSH", find_sshd)
    environment = step("environment", keep_environment)
    write("authorized_keys", settings["public_key"] + "\n")
    host_key = step("host key", make_host_key)
    port = step("SSH server", lambda: start_sshd(program, environment))
    return {
        "port": port,
        "host_key": host_key,
        "colab_host_keys": find_colab_keys(program),
        "hostname": read("/var/colab/hostname").strip(),
        "steps": steps,
    }


def find_sshd() -> str:
    """The path of sshd, installed when there is none."""
    folders = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin"
    found = shutil.which("sshd", path=folders)
    if found is None:
        quietly = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        for words in (["update"], ["install", "-y", "openssh-server"]):
            subprocess.run(["apt-get", "-qq", *words], check=False, env=quietly)
        found = shutil.which("sshd", path=folders)
    if found is None:
        raise RuntimeError("there is no sshd, and it could not be installed")
    return found


def keep_environment() -> Dict[str, str]:
    """What a session and the agent need of the kernel's environment."""
    kept = {name: os.environ[name] for name in _PASSED_ON if os.environ.get(name)}
    for name, value in _DEFAULTS.items():
        present = kept.get(name, "").split(":")
        missing = [folder for folder in value.split(":") if folder not in present]
        kept[name] = ":".join([folder for folder in present if folder] + missing)
    path = os.path.expanduser(ENVIRONMENT_FILE)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    write(path, json.dumps(kept))
    return kept


def make_host_key() -> str:
    """Our server's own key, made once."""
    path = os.path.join(HOME, "host_key")
    if not os.path.exists(path + ".pub"):
        if os.path.exists(path):
            os.unlink(path)
        making = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path]
        subprocess.run(making, check=True, stdin=subprocess.DEVNULL)
    return public_key(read(path + ".pub"))


def start_sshd(program: str, environment: Dict[str, str]) -> int:
    """The port of the running server; one with another configuration is replaced."""
    known = read("port").strip()
    port = int(known) if known.isdigit() else free_port()
    text = render_config(port, environment)
    if read("sshd_config") == text and greets(port):
        return port
    stop_sshd()
    if not is_free(port):
        port = free_port()
        text = render_config(port, environment)
    write("sshd_config", text)
    write("port", str(port))
    os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    config = os.path.join(HOME, "sshd_config")
    subprocess.run([program, "-f", config, "-E", os.path.join(HOME, "sshd.log")], check=True)
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not greets(port):
        if time.monotonic() >= deadline:
            raise RuntimeError("sshd does not answer: " + read("sshd.log")[-500:])
        time.sleep(_POLL_S)
    return port


def render_config(port: int, environment: Dict[str, str]) -> str:
    """One SetEnv line: of several, sshd takes the first alone."""
    words = ('"%s=%s"' % (name, value.replace('"', "")) for name, value in environment.items())
    return CONFIG.format(port=port, home=HOME, environment=" ".join(words))


def stop_sshd() -> None:
    pid = read("sshd.pid").strip()
    if pid.isdigit() and "sshd" in read("/proc/%s/cmdline" % pid):
        os.kill(int(pid), signal.SIGTERM)


def find_colab_keys(program: str) -> List[str]:
    """The keys that Colab's own server may show."""
    asking = [program, "-T"]
    told = subprocess.run(
        asking, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20, check=False
    )
    lines = told.stdout.decode("utf-8", "replace").splitlines()
    named = [line.split(" ", 1)[1] + ".pub" for line in lines if line.startswith("hostkey ")]
    files = sorted({*named, *glob.glob("/etc/ssh/ssh_host_*_key.pub")})
    return [key for key in (public_key(read(path)) for path in files) if key]


def public_key(line: str) -> str:
    """Kind and key, without the comment."""
    return " ".join(line.split()[:2])


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def is_free(port: int) -> bool:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return trial.connect_ex(("127.0.0.1", port)) != 0


def greets(port: int) -> bool:
    """Whether an SSH server answers there."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def read(path: str) -> str:
    """The file's text; "" when there is none."""
    try:
        with open(os.path.join(HOME, path), encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def write(path: str, text: str) -> None:
    """Put the file in place, whole, for root alone."""
    target = os.path.join(HOME, path)
    handle = os.open(target + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(target + ".new", target)
