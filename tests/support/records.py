"""Records of a runtime and of a job, always the same."""

from __future__ import annotations

from datetime import UTC, datetime

from colabdev.models import (
    JobRecord,
    JobState,
    KeeperAddress,
    Machine,
    Phase,
    ProjectLink,
    RuntimeRecord,
    SshAddress,
    UserLogin,
)
from colabdev.models.recovery import Consent
from colabdev.models.tunnels import Endpoint, TunnelUse

MOMENT = datetime(2026, 11, 20, 22, 34, 5, 123456, tzinfo=UTC)
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBRFczrG4bSPDHJyhzTIh0zVZFlHsZLk4VTXgnoHVbqY"
LOGIN = UserLogin(
    host="me@gpu",
    identity_files=("/home/me/.ssh/id_rsa",),
    identities_only=True,
    identity_agent="/run/agent",
    proxy_command="nc 127.0.0.1 2222",
    unused=("CertificateFile",),
)

TUNNEL = TunnelUse(
    "ngrok", ("203.0.113.0/24",), "1.tcp.ngrok.io:2", Endpoint("a.b", 12345, "nc a.b 9")
)


def make_record(name: str = "box", *, provider: str = "local") -> RuntimeRecord:
    """A record in which every field but the tunnel, which overrules an address, has a value of its
    own."""
    return RuntimeRecord(
        name=name,
        provider=provider,
        request_id="request-1",
        created=MOMENT,
        phase=Phase.UP,
        machine=Machine(
            ssh=SshAddress("127.0.0.1", 2222, "root", HOST_KEY, LOGIN),
            content_dir="/content",
            drive_dir="/content/drive/MyDrive",
            since=MOMENT,
            accelerator="Tesla T4",
            request_id="request-1",
        ),
        keeper=KeeperAddress(pid=4242, port=40000, key="5a" * 32, version="1.2.3"),
        projects=(ProjectLink("/home/me/digits", "/content/digits", MOMENT),),
        python="/usr/bin/python3",
        host="me@gpu",
    )


def make_job(consent: Consent | None = None) -> JobRecord:
    """A job that runs on `make_record()`, and goes on elsewhere if somebody agreed to that."""
    return JobRecord(
        "a-261120-aaaa",
        "a",
        "box",
        "request-1",
        ("a.py",),
        MOMENT,
        state=JobState.RUNNING,
        started=MOMENT,
        continues=consent,
    )
