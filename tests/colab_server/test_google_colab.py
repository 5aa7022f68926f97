"""`google.colab` in the kernel: the message protocol, and Drive as a mounted runtime sees it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from tests.support.colab import Colab, Machine, ask
from tests.support.colab_kernel import Answer, Kernel, Outcome
from tests.support.waiting import wait_until

MOUNT = "from google.colab import drive; drive.mount('/content/drive')"
PROPAGATION = "authtype=dfs_ephemeral&version=2&propagate=true&record=false"


def propagate(colab: Colab, machine: Machine, *, dry_run: bool) -> Any:
    path = f"/tun/m/credentials-propagation/{machine.endpoint}?{PROPAGATION}"
    return colab.post(f"{path}&dryrun={str(dry_run).lower()}").json


def give_credentials(colab: Colab, machine: Machine) -> Answer:
    """What a client does when the kernel asks."""

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        assert request == {"authType": "dfs_ephemeral"}
        assert propagate(colab, machine, dry_run=False) == {"success": True}
        return {}

    return answer


def open_kernel(machine: Machine) -> Kernel:
    """A new websocket to the machine's kernel: a kernel takes a second to start."""
    kernels = machine.get("/api/kernels").json
    return Kernel(machine, kernel_id=kernels[0]["id"] if kernels else "")


@pytest.fixture
def mounted(colab: Colab, machine: Machine) -> Machine:
    with open_kernel(machine) as kernel:
        done = kernel.execute(MOUNT, give_credentials(colab, machine))
    assert not done.error, done
    return machine


def run(machine: Machine, code: str) -> Outcome:
    with open_kernel(machine) as kernel:
        return kernel.execute(code)


def test_mount_asks_the_client_and_then_drive_is_there(colab: Colab, machine: Machine) -> None:
    with open_kernel(machine) as kernel:
        first = kernel.execute(MOUNT, give_credentials(colab, machine))
        again = kernel.execute(MOUNT, lambda _: {})

        assert first.text == "Mounted at /content/drive\n"
        assert again.text.startswith("Drive already mounted at /content/drive;")
        (request,) = first.requests
        number = request["metadata"]["colab_msg_id"]
        assert request["metadata"] == {
            "colab_request_type": "request_auth",
            "colab_msg_id": number,
        }
        assert request["content"] == {"request": {"authType": "dfs_ephemeral"}}
        assert request["parent_header"]["session"] == kernel.session
        assert again.requests[0]["metadata"]["colab_msg_id"] == number + 1
        shown = kernel.execute("import os; print(sorted(os.listdir('/content/drive')))").text
    assert shown == "['My Drive', 'MyDrive']\n"


def test_mount_without_an_answer_goes_on_and_fails(colab: Colab, machine: Machine) -> None:
    unmount = "import subprocess; subprocess.run(['umount', '-l', '/content/drive'])"
    impatient = MOUNT.replace("drive')", "drive', timeout_ms=700)")
    with open_kernel(machine) as kernel:
        kernel.execute(unmount)
        # What an earlier test propagated has expired.
        colab.advance(48 * 60)
        failed = kernel.execute(impatient)
    assert len(failed.requests) == 1
    assert failed.error == "ValueError: mount failed"


def test_answer_with_an_error_is_raised(machine: Machine) -> None:
    with open_kernel(machine) as kernel:
        failed = kernel.execute(MOUNT, lambda _: {"error": "the user said no"})
    assert failed.error == "MessageError: the user said no"


def test_answers_that_are_none_are_thrown_away(machine: Machine) -> None:
    """Another number, another kind, plain input: the kernel goes on waiting."""
    code = "from google.colab import _message; print(_message.blocking_request('x', '', 0.8))"
    wrong: list[Any] = [{"colab_msg_id": 999, "data": 1}, {"type": "something", "data": 1}]
    for value in wrong:
        with open_kernel(machine) as kernel:
            assert kernel.execute(code, lambda _, value=value: value).text == "None\n"  # type: ignore[misc]


def test_consent_is_needed_once_and_given_in_a_browser(colab: Colab, machine: Machine) -> None:
    colab.account(consented=False)
    refused = propagate(colab, machine, dry_run=True)
    assert refused["success"] is False
    assert propagate(colab, machine, dry_run=False)["success"] is False

    assert ask("GET", refused["unauthorized_redirect_uri"]).status == 200
    assert propagate(colab, machine, dry_run=True) == {"success": True}
    assert colab.counters()["drive consent"] == 1


def test_propagation_can_fail(colab: Colab, machine: Machine) -> None:
    path = f"/tun/m/credentials-propagation/{machine.endpoint}?{PROPAGATION}&dryrun=true"
    colab.fault("propagation_status", 400, times=1)
    assert colab.post(path).status == 400
    assert colab.post(path.replace("dfs_ephemeral", "other")).status == 400
    assert colab.call("POST", path).status == 403


@pytest.mark.parametrize(("failure", "said"), [("timeout", "initial read"), ("disabled", "domain")])
def test_mount_can_fail(colab: Colab, machine: Machine, failure: str, said: str) -> None:
    colab.fault("mount_failure", failure, times=1)
    code = MOUNT.replace("/content/drive", "/content/elsewhere")
    with open_kernel(machine) as kernel:
        failed = kernel.execute(code, give_credentials(colab, machine))
    assert failed.error.startswith("ValueError: mount failed")
    assert said in failed.error


def test_file_on_a_mount_is_uncommitted_until_it_is_in_the_cloud(
    colab: Colab, mounted: Machine
) -> None:
    colab.facts(drive_upload_delay_s=60)
    marks = """
import os, time
path = '/content/drive/MyDrive/folder/a.bin'
def mark(name):
    for _ in range(200):
        try:
            return os.getxattr(path, 'user.drive.' + name).decode()
        except OSError:
            time.sleep(0.02)
"""
    write = "os.makedirs(os.path.dirname(path)); open(path, 'wb').write(b'data')"
    with open_kernel(mounted) as kernel:
        before = kernel.execute(f"{marks}\n{write}; print(mark('uncommitted'), mark('id'))").text
        assert before.startswith("1 local-")
        assert not [one for one in colab.drive() if one["name"] == "a.bin"]

        colab.advance(61)
        after = kernel.execute(
            "while mark('uncommitted') == '1': time.sleep(0.02)\n"
            "print(mark('uncommitted'), mark('id'), mark('md5'))"
        ).text.split()
    (file,) = [one for one in colab.drive() if one["name"] == "a.bin"]
    assert after == ["0", file["id"], hashlib.md5(b"data").hexdigest()]
    assert file["sha256Checksum"] == hashlib.sha256(b"data").hexdigest()


@pytest.mark.parametrize("end", ["reclaim", "kill_machine"])
def test_what_was_not_uploaded_dies_with_the_runtime_and_the_rest_is_on_the_next(
    colab: Colab, mounted: Machine, end: str
) -> None:
    where = "/content/drive/MyDrive"
    run(mounted, f"open('{where}/kept', 'w').write('x')")
    wait_until(lambda: "kept" in _names(colab), message="it is not uploaded")
    colab.fault("drive_stalled", True)
    run(mounted, f"open('{where}/lost', 'w').write('x')")
    colab.do(end, mounted.endpoint)
    colab.fault("drive_stalled", None)

    second = Machine(colab.assign("T4"))
    with Kernel(second) as kernel:
        kernel.execute(MOUNT, give_credentials(colab, second))
        listed = kernel.execute(f"import os; print(sorted(os.listdir('{where}')))").text
    assert "'kept'" in listed
    assert "lost" not in listed
    assert "lost" not in _names(colab)
    assert not any(one["trashed"] for one in colab.drive())


def test_flush_waits_for_the_uploads_and_unmounts(colab: Colab, mounted: Machine) -> None:
    colab.facts(drive_upload_delay_s=3600)
    done = run(
        mounted,
        "open('/content/drive/MyDrive/late', 'w').write('x')\n"
        "from google.colab import drive; drive.flush_and_unmount()\n"
        "import os; print(os.path.ismount('/content/drive'))",
    )
    assert done.text == "False\n", done
    assert "late" in _names(colab)


def test_drive_can_lie_and_corrupt(colab: Colab, mounted: Machine) -> None:
    write = "open('/content/drive/MyDrive/{}', 'w').write('data')"
    colab.fault("drive_lies", True, times=1)
    run(mounted, write.format("lied"))
    wait_until(lambda: "drive_lies" in colab.describe()["struck"], message="it did not lie")
    assert "lied" not in _names(colab)

    colab.fault("drive_corrupts", True, times=1)
    run(mounted, write.format("bad"))
    wait_until(lambda: "drive_corrupts" in colab.describe()["struck"], message="not corrupted")
    (bad,) = [one for one in colab.drive() if one["name"] == "bad"]
    assert bad["md5Checksum"] != hashlib.md5(b"data").hexdigest()


def test_mount_can_vanish(colab: Colab, mounted: Machine) -> None:
    colab.do("lose_drive", mounted.endpoint)
    told = run(mounted, "import os; print(os.path.ismount('/content/drive'))").text
    assert told == "False\n"


def test_credentials_are_for_the_runtime_and_expire(colab: Colab, machine: Machine) -> None:
    code = """
import os, urllib.request, urllib.error
url = 'http://' + os.environ['TBE_EPHEM_CREDS_ADDR']
url += '/computeMetadata/v1/instance/service-accounts/default/token'
try:
    asked = urllib.request.Request(url, headers={'Metadata-Flavor': 'Google'})
    print(urllib.request.urlopen(asked).read().decode())
except urllib.error.HTTPError as exc:
    print(exc.code)
"""
    with open_kernel(machine) as kernel:
        propagate(colab, machine, dry_run=False)
        token = json.loads(kernel.execute(code).text)["access_token"]
        about = f"{colab.base_url}/drive/v3/about?fields=user"
        told = ask("GET", about, headers={"Authorization": f"Bearer {token}"}).json
        assert told["user"]["emailAddress"] == "somebody@example.com"
        colab.advance(48 * 60)
        assert kernel.execute(code).text == "404\n"


def test_authenticate_user_asks_the_client_or_for_a_code(colab: Colab, machine: Machine) -> None:
    code = "from google.colab import auth; auth.authenticate_user(); print('in')"
    with open_kernel(machine) as kernel:
        done = kernel.execute(code, lambda _: {})
        assert done.text == "in\n"
        assert done.requests[0]["content"]["request"] == {"authType": "auth_user_ephemeral"}

        kernel.send(
            "shell",
            "execute_request",
            {"code": f"import os; os.environ['USE_AUTH_EPHEM'] = '0'; {code}", "allow_stdin": True},
        )
        while kernel.receive()["msg_type"] != "input_request":
            pass
        kernel.send("stdin", "input_reply", {"value": "4/code"})
        while (message := kernel.receive())["msg_type"] != "execute_reply":
            pass
    assert message["content"]["status"] == "ok"


def test_secret_is_what_the_client_says(machine: Machine) -> None:
    code = "from google.colab import userdata; print(userdata.get('KEY'))"
    with open_kernel(machine) as kernel:
        given = {"data": {"exists": True, "access": True, "payload": "s3cret"}}
        done = kernel.execute(code, lambda _: given)
        assert done.text == "s3cret\n"
        assert done.requests[0]["content"]["request"] == {"key": "KEY"}
        for answer, error in (
            ({"exists": False}, "SecretNotFoundError"),
            ({"exists": True, "access": False}, "NotebookAccessError"),
        ):
            failed = kernel.execute(code, lambda _, answer=answer: {"data": answer})  # type: ignore[misc]
            assert failed.error.startswith(error)


def test_secrets_of_an_account(colab: Colab) -> None:
    colab.account(secrets={"KEY": "s3cret"})
    listed = colab.call("GET", "/userdata/list").json
    assert listed == [{"key": "KEY", "payload": "s3cret", "access": True}]


def test_runtime_can_give_itself_back(colab: Colab, machine: Machine) -> None:
    with open_kernel(machine) as kernel:
        code = "from google.colab import runtime; runtime.unassign()"
        kernel.send("shell", "execute_request", {"code": code})
        wait_until(
            lambda: colab.describe()["ended"] == {machine.endpoint: "unassigned from within"},
            message="the runtime is still there",
        )


def _names(colab: Colab) -> set[str]:
    return {one["name"] for one in colab.drive()}
