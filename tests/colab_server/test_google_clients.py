"""Google's own clients against the stand-in, as they are. `colab` takes no base URL, so that for it
the host names lead elsewhere, by `HTTPS_PROXY` and a certificate to trust (`google_front.py`)."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.oauth2.credentials import Credentials
from googleapiclient.discovery import build_from_document  # type: ignore[import-untyped]
from googleapiclient.discovery_cache import DISCOVERY_DOC_DIR  # type: ignore[import-untyped]
from googleapiclient.errors import HttpError  # type: ignore[import-untyped]
from googleapiclient.http import MediaIoBaseUpload  # type: ignore[import-untyped]

from tests.support.colab import Colab, ask
from tests.support.google_front import GoogleFront
from tests.support.keys import make_keypair

CLI_VENV = Path(__file__).parents[2] / "scripts" / "colab-cli-venv"
CHUNK = 256 * 1024


@pytest.fixture(scope="session")
def colab_cli() -> Path:
    """The `colab` of google-colab-cli, installed for it."""
    made = subprocess.run(
        [CLI_VENV], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    return Path(made.stdout.removesuffix("\n"))


@pytest.fixture
def front(colab: Colab, tmp_path: Path) -> Iterator[GoogleFront]:
    with GoogleFront(tmp_path, colab.base_url) as started:
        yield started


class Cli:
    """`colab`, with a home of its own, in which it is logged in by application default credentials."""

    def __init__(self, program: Path, colab: Colab, front: GoogleFront, home: Path) -> None:
        home.mkdir()
        credentials = home / "adc.json"
        tokens = colab.tokens(
            scopes=[
                "openid",
                *(
                    f"https://www.googleapis.com/auth/{name}"
                    for name in ("userinfo.email", "cloud-platform", "colaboratory", "drive.file")
                ),
            ]
        )
        adc = {
            "type": "authorized_user",
            "client_id": tokens["client_id"],
            "client_secret": "not one",
            "refresh_token": tokens["refresh_token"],
        }
        credentials.write_text(json.dumps(adc))
        self.home = home
        self.program = program
        self.environment = {
            **front.environment,
            "HOME": str(home),
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "GOOGLE_APPLICATION_CREDENTIALS": str(credentials),
            "COLAB_CLI_RETRY_BACKOFF": "0.1",
            "NO_COLOR": "1",
        }

    def __call__(
        self, *arguments: str, stdin: str = "", status: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [self.program, "--auth", "adc", *arguments],
            env=self.environment,
            cwd=self.home,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert status is None or done.returncode == status, (done.stdout, done.stderr)
        return done


@pytest.fixture
def cli(colab_cli: Path, colab: Colab, front: GoogleFront, tmp_path: Path) -> Cli:
    colab.reset()
    return Cli(colab_cli, colab, front, tmp_path / "home")


@pytest.mark.long
def test_life_of_a_runtime_with_googles_cli(colab: Colab, cli: Cli, front: GoogleFront) -> None:
    started = time.monotonic()
    assert "Session READY" in cli("new", "-s", "s1", "--gpu", "T4").stdout
    (runtime,) = colab.describe()["runtimes"]
    assert f"[s1] {runtime['endpoint']} | Hardware: T4" in cli("sessions").stdout

    assert cli("exec", "-s", "s1", stdin="print(6 * 7, __import__('os').getcwd())").stdout.endswith(
        "42 /content\n"
    )
    local = cli.home / "data.bin"
    local.write_bytes(os.urandom(200_000))
    cli("upload", "-s", "s1", str(local), "content/data.bin")
    assert "data.bin" in cli("ls", "-s", "s1", "content").stdout
    cli("download", "-s", "s1", "content/data.bin", str(cli.home / "back.bin"))
    assert (cli.home / "back.bin").read_bytes() == local.read_bytes()
    cli("rm", "-s", "s1", "content/data.bin")

    mounted = cli("drivemount", "-s", "s1")
    assert "Credentials propagated" in mounted.stdout
    assert "Mounted at /content/drive" in mounted.stdout

    assert "Active assignments: 1" in cli("usage").stdout
    assert "Session terminated" in cli("stop", "-s", "s1").stdout
    assert colab.describe()["ended"] == {runtime["endpoint"]: "unassigned"}
    # 20 s on two cores that have nothing else to do.
    assert time.monotonic() - started < 90
    _check_what_it_sent(colab)
    assert not [host for host in front.refused if host.endswith(("google.com", "googleapis.com"))]


def _check_what_it_sent(colab: Colab) -> None:
    posted = [one for one in colab.requests("/tun/m/assign") if one["method"] == "POST"]
    assert len(posted) == 1
    query, headers = posted[0]["query"], posted[0]["headers"]
    assert {**query, "nbh": len(query["nbh"])} == {
        "authuser": "0",
        "nbh": 44,
        "variant": "GPU",
        "accelerator": "T4",
    }
    assert headers["x-colab-client-agent"] == "colab-cli"
    assert headers["x-goog-colab-token"]
    propagations = [
        (one["method"], one["query"]["dryrun"], one["headers"].get("x-goog-colab-token", ""))
        for one in colab.requests()
        if "/credentials-propagation/" in one["path"]
    ]
    assert [one[:2] for one in propagations] == [
        ("GET", "true"),
        ("POST", "true"),
        ("POST", "false"),
    ]
    # It asks for one token and uses it twice.
    assert propagations[1][2] == propagations[2][2]
    channels = colab.requests("/channels")
    assert channels
    assert all(one["headers"].get("x-colab-runtime-proxy-token") for one in channels), channels


def test_ssh_with_googles_cli(colab: Colab, cli: Cli) -> None:
    ssh_directory = cli.home / ".ssh"
    ssh_directory.mkdir(mode=0o700)
    keys = make_keypair(ssh_directory)
    cli("new", "-s", "s1")
    (runtime,) = colab.describe()["runtimes"]
    proxy = f"{cli.program} --auth adc ssh --proxy-mode -s s1 -i {keys.private}"
    argv = ["ssh", "-F", "none", "-oBatchMode=yes", "-oStrictHostKeyChecking=no"]
    argv += ["-oUserKnownHostsFile=/dev/null", f"-oIdentityFile={keys.private}", "-oLogLevel=ERROR"]
    done = subprocess.run(
        [*argv, f"-oProxyCommand={proxy}", "root@colab-runtime", "cat /var/colab/hostname"],
        env=cli.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.returncode) == (runtime["endpoint"] + "\n", 0), done.stderr
    (opened,) = colab.requests("/colab/ssh")
    assert opened["headers"]["x-colab-ssh-pubkey"].split()[:2] == keys.public.split()[:2]
    assert "colab-runtime-proxy-token" in opened["query"]


@pytest.mark.long
def test_console_of_googles_cli(colab: Colab, cli: Cli) -> None:
    cli("new", "-s", "s1")
    told = cli("console", "-s", "s1", stdin="echo $((40 + 2))\n").stdout
    assert "\n42" in told.replace("\r", "\n")


def test_googles_cli_reconciles_an_assignment_that_it_did_not_hear_of(
    colab: Colab, cli: Cli
) -> None:
    """503 is tried again, with the same notebook hash, which it first looks up."""
    colab.fault("assign_status", 503, times=1)
    cli("new", "-s", "s1")
    sent = [(one["method"], one["query"]["nbh"]) for one in colab.requests("/tun/m/assign")]
    assert [method for method, _ in sent] == ["GET", "POST", "GET", "POST"]
    assert len({nbh for _, nbh in sent}) == 1


def test_googles_cli_says_what_it_was_refused(colab: Colab, cli: Cli) -> None:
    colab.fault("assign_status", 412, times=1)
    assert "Allocation refused" in cli("new", "-s", "s1", status=1).stderr
    assert "rejected accelerator 'H100'" in cli("new", "-s", "s1", "--gpu", "H100", status=1).stderr


# --- google-api-python-client ---


@pytest.fixture
def drive(colab: Colab) -> Any:
    """The client, made from Google's own description of the API with another root: with its option
    for that, uploads would still go to Google."""
    tokens = colab.tokens()
    credentials = Credentials(  # type: ignore[no-untyped-call]
        token=None,
        refresh_token=tokens["refresh_token"],
        token_uri=f"{colab.base_url}/token",
        client_id=tokens["client_id"],
        client_secret="not one",
    )
    description = json.loads((Path(DISCOVERY_DOC_DIR) / "drive.v3.json").read_text())
    description |= {"rootUrl": f"{colab.base_url}/", "baseUrl": f"{colab.base_url}/drive/v3/"}
    with build_from_document(description, credentials=credentials) as service:
        yield service


def upload(
    drive: Any, data: bytes, *, name: str = "a.bin", chunk: int = CHUNK, **metadata: Any
) -> Any:
    media = MediaIoBaseUpload(io.BytesIO(data), "application/x-thing", chunk, resumable=True)
    body = {"name": name, **metadata}
    fields = "id,name,size,md5Checksum,sha256Checksum,headRevisionId,mimeType"
    return drive.files().create(body=body, media_body=media, fields=fields)


def test_resumable_upload_proves_what_arrived(colab: Colab, drive: Any) -> None:
    data = os.urandom(3 * CHUNK + 5)
    (new_id,) = drive.files().generateIds(count=1).execute()["ids"]
    request = upload(drive, data, id=new_id, appProperties={"step": "7"})
    seen = []
    answer = None
    while answer is None:
        progress, answer = request.next_chunk()
        seen.append(progress and progress.resumable_progress)
    assert seen == [CHUNK, 2 * CHUNK, 3 * CHUNK, None]
    assert (answer["id"], answer["size"]) == (new_id, str(len(data)))
    assert answer["sha256Checksum"] == hashlib.sha256(data).hexdigest()
    assert answer["mimeType"] == "application/x-thing"

    assert drive.files().get_media(fileId=new_id).execute() == data
    query = "appProperties has { key='step' and value='7' } and trashed = false"
    assert [one["id"] for one in drive.files().list(q=query).execute()["files"]] == [new_id]
    chunks = [one for one in colab.requests("/upload/drive/v3/files") if one["method"] == "PUT"]
    assert [one["status"] for one in chunks] == [308, 308, 308, 200]
    assert chunks[0]["headers"]["content-range"] == f"bytes 0-{CHUNK - 1}/{len(data)}"

    drive.files().delete(fileId=new_id).execute()
    assert _status(drive.files().get(fileId=new_id)) == 404


def test_upload_that_broke_goes_on_where_it_was(colab: Colab, drive: Any) -> None:
    data = os.urandom(8 * CHUNK)
    request = upload(drive, data, chunk=4 * CHUNK)
    colab.fault("drive_breaks_upload", 503, times=1)
    with pytest.raises(HttpError):
        request.next_chunk()
    answer = None
    while answer is None:
        _, answer = request.next_chunk()
    assert answer["md5Checksum"] == hashlib.md5(data).hexdigest()
    puts = [one for one in colab.requests("/upload/drive/v3/files") if one["method"] == "PUT"]
    ranges = [one["headers"]["content-range"] for one in puts]
    # Half of the first chunk had arrived, and from there it goes on.
    assert ranges[1] == f"bytes */{len(data)}"
    assert ranges[2].startswith(f"bytes {2 * CHUNK}-")


def test_upload_whose_connection_broke_keeps_what_arrived(colab: Colab) -> None:
    data = os.urandom(2 * CHUNK)
    headers = {"Authorization": f"Bearer {colab.token}", "Content-Type": "application/json"}
    start = f"{colab.base_url}/upload/drive/v3/files?uploadType=resumable"
    place = ask("POST", start, headers=headers, body=b'{"name": "x"}').headers["Location"]
    colab.fault("drive_breaks_upload", 0, times=1)
    assert ask("PUT", place, body=data).status == 0

    asked = {"Content-Range": f"bytes */{len(data)}"}
    arrived = ask("PUT", place, headers=asked, body=b"")
    assert (arrived.status, arrived.headers["Range"]) == (308, f"bytes=0-{CHUNK - 1}")
    rest = {"Content-Range": f"bytes {CHUNK}-{2 * CHUNK - 1}/{len(data)}"}
    assert ask("PUT", place, headers=rest, body=data[CHUNK:]).status == 200
    (file,) = colab.drive()
    assert file["md5Checksum"] == hashlib.md5(data).hexdigest()


def test_create_again_with_the_same_id_makes_no_twin(drive: Any) -> None:
    (new_id,) = drive.files().generateIds(count=1).execute()["ids"]
    upload(drive, b"x", id=new_id).execute()
    assert _status(upload(drive, b"x", id=new_id)) == 409
    assert _status(upload(drive, b"x", id="never-generated")) == 400


def test_names_are_not_unique_and_folders_hold_files(drive: Any) -> None:
    folder_type = "application/vnd.google-apps.folder"
    folder = drive.files().create(body={"name": "f", "mimeType": folder_type}).execute()["id"]
    for _ in range(3):
        upload(drive, b"x", parents=[folder]).execute()
    found = []
    request = drive.files().list(q=f"'{folder}' in parents and name = 'a.bin'", pageSize=2)
    while request is not None:
        page = request.execute()
        found += page["files"]
        request = drive.files().list_next(request, page)
    assert len({one["id"] for one in found}) == 3
    drive.files().delete(fileId=folder).execute()
    assert _status(drive.files().get(fileId=found[0]["id"])) == 404


def test_list_lags_and_get_does_not(colab: Colab, drive: Any) -> None:
    colab.facts(drive_list_lag_s=30)
    made = upload(drive, b"x", name="late").execute()
    query = "name = 'late'"
    assert drive.files().list(q=query).execute()["files"] == []
    assert drive.files().get(fileId=made["id"]).execute()["name"] == "late"
    colab.advance(31)
    assert len(drive.files().list(q=query).execute()["files"]) == 1


def test_about_and_quota(colab: Colab, drive: Any) -> None:
    upload(drive, b"x" * 100).execute()
    quota = drive.about().get(fields="storageQuota").execute()["storageQuota"]
    assert quota["usage"] == "100"
    assert _status(drive.about().get()) == 400
    colab.facts(drive_quota_bytes=150)
    assert _reason(upload(drive, b"x" * 100)) == "storageQuotaExceeded"
    colab.facts(drive_quota_bytes=10**9)
    colab.fault("drive_quota", True, times=1)
    assert _reason(upload(drive, b"x")) == "storageQuotaExceeded"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_api_can_fail_and_the_client_tries_again(colab: Colab, drive: Any, status: int) -> None:
    colab.fault("drive_status", status, times=1)
    assert drive.files().list().execute(num_retries=2)["files"] == []
    colab.fault("drive_status", 403, times=1)
    assert _reason(drive.files().list()) == "userRateLimitExceeded"


def test_scope_drive_file_shows_only_its_clients_files(colab: Colab, drive: Any) -> None:
    made = upload(drive, b"x").execute()
    scopes = ["https://www.googleapis.com/auth/drive.file"]
    other = colab.tokens(client_id="another", scopes=scopes)["access_token"]
    path = f"/drive/v3/files/{made['id']}?alt=json"
    assert colab.call("GET", path, token=other).status == 404
    wide = colab.tokens(
        client_id="another", scopes=["https://www.googleapis.com/auth/drive.metadata.readonly"]
    )["access_token"]
    assert colab.call("GET", path, token=wide).status == 200
    assert colab.call("DELETE", path, token=wide).status == 403
    none = colab.tokens(scopes=["openid"])["access_token"]
    assert colab.call("GET", path, token=none).status == 403


def _error(request: Any) -> Any:
    with pytest.raises(HttpError) as failed:
        request.execute()
    return failed.value


def _status(request: Any) -> int:
    status: int = _error(request).resp.status
    return status


def _reason(request: Any) -> str:
    reason: str = _error(request).error_details[0]["reason"]
    return reason
