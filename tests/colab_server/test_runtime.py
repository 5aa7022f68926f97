"""A runtime through its proxy: a real Jupyter server and kernel, and what the proxy adds."""

from __future__ import annotations

import base64
import functools
import json
import os
import re
import time

import nbformat
import pytest
import websocket
from jupyter_server.gateway.gateway_client import GatewayClient
from jupyter_server.gateway.managers import GatewayKernelManager
from nbclient import NotebookClient

from tests.support.colab import Colab, Machine, Reply, ask, end_socket
from tests.support.colab_kernel import Kernel, start_kernel
from tests.support.waiting import wait_until


def test_first_runtime_is_there_soon(colab: Colab) -> None:
    """5 s is what it may cost; a computer that is busy with other tests may take six times that."""
    started = time.monotonic()
    machine = Machine(colab.assign("T4"))
    with Kernel(machine) as kernel:
        assert kernel.execute("print(6 * 7)").text == "42\n"
    assert time.monotonic() - started < 30
    colab.do("reclaim", machine.endpoint)


def test_machine_looks_like_one_of_colabs(machine: Machine) -> None:
    code = """
import os, socket
print(os.getcwd(), os.path.isdir("/content/sample_data"), os.environ["HOME"], os.getuid())
print(open("/var/colab/hostname").read().strip(), socket.gethostname())
print([name for name in sorted(os.environ) if name.startswith("TBE_")])
print(os.listdir("/root/.ssh") if os.path.exists("/root/.ssh") else "no keys of ours")
get_ipython().system("nvidia-smi -L; nvidia-smi | head -1")
get_ipython().system("nvidia-smi --query-gpu=name,memory.total --format=csv,noheader")
"""
    with Kernel(machine) as kernel:
        told = kernel.execute(code).text.replace("\r", "").splitlines()
    assert told == [
        "/content True /root 0",
        f"{machine.endpoint} {machine.endpoint}",
        "['TBE_CREDS_ADDR', 'TBE_EPHEM_CREDS_ADDR', 'TBE_RUNTIME_ADDR']",
        "no keys of ours",
        "GPU 0: Tesla T4 (UUID: GPU-00000000-0000-0000-0000-000000000000)",
        "NVIDIA-SMI 580.82.07 (stand-in: no GPU is here)   Driver Version: 580.82.07   "
        "CUDA Version: 13.0",
        "Tesla T4, 15360 MiB",
    ]


def test_nbclient_runs_a_notebook(
    colab: Colab, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through jupyter_client's gateway classes, over the websocket, with the token in a header."""
    # These have no option for headers of the websocket; for all others they have.
    with_headers = functools.partial(websocket.create_connection, header=machine.headers)
    monkeypatch.setattr(websocket, "create_connection", with_headers)
    notebook = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
    for source in ("import os; x = 20", "print(x + 1, os.getcwd())", "x * 2"):
        cell = nbformat.v4.new_code_cell(source)  # type: ignore[no-untyped-call]
        notebook.cells.append(cell)
    GatewayClient.clear_instance()
    gateway = GatewayClient.instance(url=machine.url, headers=json.dumps(machine.headers))
    gateway.url = machine.url
    try:
        NotebookClient(
            notebook, timeout=30, kernel_manager_class=GatewayKernelManager, kernel_name="python3"
        ).execute()
    finally:
        GatewayClient.clear_instance()

    assert notebook.cells[1].outputs[0]["text"] == "21 /content\n"
    assert notebook.cells[2].outputs[0]["data"]["text/plain"] == "40"
    channels = colab.requests("/channels")
    assert channels[-1]["headers"]["x-colab-runtime-proxy-token"] == machine.token
    assert colab.counters()["kernel websocket opened"] >= 1


def test_contents_of_the_whole_machine(machine: Machine) -> None:
    url = f"{machine.url}/api/contents/content/a%20b.bin"
    data = os.urandom(300_000)
    body = {"type": "file", "format": "base64", "content": base64.b64encode(data).decode()}
    assert _put(machine, url, body).status == 201

    got = machine.get("/api/contents/content/a%20b.bin?format=base64&type=file").json
    assert base64.b64decode(got["content"]) == data
    listed = machine.get("/api/contents/content").json["content"]
    assert {"a b.bin", "sample_data"} <= {one["name"] for one in listed}
    assert ask("DELETE", url, headers=machine.headers).status == 204
    assert machine.get("/api/contents/content/a%20b.bin").status == 404
    assert machine.get("/api/contents/content/none/x").status == 404


def test_large_put_dies_with_its_connection(colab: Colab, machine: Machine) -> None:
    colab.facts(max_put_bytes=100_000)
    body = {"type": "file", "format": "text", "content": "x" * 200_000}
    assert _put(machine, f"{machine.url}/api/contents/content/x", body).status == 0


def test_files_of_this_computer_stay_as_they_are(machine: Machine) -> None:
    """A machine's disk is its own, though everything of this computer can be read in it."""
    with Kernel(machine) as kernel:
        text = kernel.execute("open('/etc/of-the-machine', 'w').write('x'); print('done')").text
    assert text == "done\n"
    assert not os.path.exists("/etc/of-the-machine")


def test_resources_say_what_was_assigned(machine: Machine) -> None:
    answer = machine.get("/api/colab/resources")
    assert answer.body.startswith(b")]}'\n")
    assert answer.json["gpus"][0]["name"] == "Tesla T4"
    assert answer.json["disks"][0]["filesystem"]["label"] == "kernel"


def test_token_is_taken_from_header_or_query_and_must_be_right(machine: Machine) -> None:
    build_info = f"{machine.url}/api/colab/build-info"
    assert ask("GET", f"{build_info}?colab-runtime-proxy-token={machine.token}").status == 200
    assert ask("GET", build_info).status == 404
    machine.token = "wrong"
    assert machine.get("/api/colab/build-info").status == 404


@pytest.mark.parametrize("status", [401, 404])
def test_expired_token_is_refused_and_a_socket_outlives_it(
    colab: Colab, machine: Machine, status: int
) -> None:
    colab.facts(expired_proxy_token_status=status, idle_timeout_s=10**6)
    with Kernel(machine) as kernel:
        colab.advance(3601)
        assert machine.get("/api/kernels").status == status
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            Kernel(machine, kernel_id=kernel.id)
        assert refused.value.status_code == status
        assert kernel.execute("print(1)").text == "1\n"
    fresh = colab.tokens()["access_token"]
    listed = colab.call("GET", "/tun/m/assignments", token=fresh).json["assignments"]
    assert Machine(listed[0]).get("/api/kernels").status == 200


def test_tokens_can_be_expired_at_once(colab: Colab, machine: Machine) -> None:
    colab.do("expire_tokens", machine.endpoint)
    assert machine.get("/api/colab/build-info").status == 404


def test_proxy_can_be_slow_and_out_of_order(colab: Colab, machine: Machine) -> None:
    colab.fault("proxy_status", 502, times=1)
    assert machine.get("/api/colab/build-info").status == 502
    colab.fault("proxy_delay_s", 0.3, times=1)
    started = time.monotonic()
    assert machine.get("/api/colab/build-info").status == 200
    assert time.monotonic() - started >= 0.3


def test_open_kernel_websocket_keeps_a_runtime_and_polling_does_not(
    colab: Colab, machine: Machine
) -> None:
    with Kernel(machine) as kernel:
        colab.advance(3 * 3600)
        assert kernel.execute("print(1)").text == "1\n"
        assert colab.describe()["ended"] == {}
    for _ in range(3):
        colab.advance(9 * 60)
        colab.call("GET", f"/tun/m/{machine.endpoint}/api/kernels", X_Colab_Tunnel="Google")
    wait_until(
        lambda: colab.describe()["ended"] == {machine.endpoint: "idle"},
        message="the runtime is not taken",
    )


def test_websocket_can_be_slow(colab: Colab, machine: Machine) -> None:
    kernel_id = start_kernel(machine)
    colab.fault("websocket_delay_s", 0.5, times=1)
    started = time.monotonic()
    with Kernel(machine, kernel_id=kernel_id, token_in_query=True):
        assert time.monotonic() - started >= 0.5


def test_websocket_dropped_in_a_cell_leaves_the_kernel_running(
    colab: Colab, machine: Machine
) -> None:
    with Kernel(machine) as kernel:
        kernel.execute("x = 0")
        kernel.send("shell", "execute_request", {"code": "import time; time.sleep(0.5); x = 7"})
        _wait_for_busy(kernel)
        assert colab.do("drop_websockets", machine.endpoint) == {"dropped": 1}
        _receive_until_broken(kernel.socket)
    with Kernel(machine, kernel_id=kernel.id) as again:
        assert again.execute("print(x)").text == "7\n"


def test_crashed_kernel_is_started_anew_by_the_server(colab: Colab, machine: Machine) -> None:
    _end_kernels(machine)
    with Kernel(machine) as kernel:
        kernel.execute("x = 1")
        assert colab.do("crash_kernel", machine.endpoint) == {"crashed": 1}
        states = []
        while "starting" not in states and "restarting" not in states:
            states.append(kernel.receive()["content"].get("execution_state"))
    with Kernel(machine, kernel_id=kernel.id) as again:
        assert again.execute("print('x' in globals())").text == "False\n"


def test_interrupt_over_rest_ends_a_busy_cell(machine: Machine) -> None:
    with Kernel(machine) as kernel:
        asked = kernel.send("shell", "execute_request", {"code": "import time; time.sleep(60)"})
        _wait_for_busy(kernel)
        url = f"{machine.url}/api/kernels/{kernel.id}/interrupt"
        assert ask("POST", url, headers=machine.headers, body=b"").status == 204
        while (message := kernel.receive())["msg_type"] != "execute_reply":
            pass
    assert message["parent_header"]["msg_id"] == asked
    assert message["content"]["ename"] == "KeyboardInterrupt"


def test_reclaimed_runtime_dies_whole(colab: Colab, machine: Machine) -> None:
    with Kernel(machine) as kernel:
        daemon = "import subprocess; subprocess.Popen(['setsid', '-f', 'sleep', '98765'])"
        kernel.execute(daemon)
        wait_until(lambda: _runs("sleep 98765"), message="the daemon has left its parent")
        colab.do("reclaim", machine.endpoint)
        _receive_until_broken(kernel.socket)
    assert not _runs("sleep 98765")
    assert machine.get("/api").status == 404
    assert colab.call("GET", "/tun/m/assignments").json == {"assignments": []}


def test_dead_machine_is_noticed(colab: Colab, machine: Machine) -> None:
    machine.get("/api")
    colab.do("kill_machine", machine.endpoint)
    wait_until(
        lambda: colab.describe()["ended"] == {machine.endpoint: "died"},
        message="nobody notices that the machine died",
    )


def test_tty_is_a_shell_that_a_new_connection_takes_over(machine: Machine) -> None:
    first = _open_tty(machine)
    first.send(json.dumps({"cols": 91, "rows": 30}))
    first.send(json.dumps({"data": "echo size $(stty size) in $(pwd)\n"}))
    _read_tty(first, "size 30 91 in /content")
    second = _open_tty(machine)
    _receive_until_broken(first)
    second.send(json.dumps({"data": "echo still $((1 + 1))\n"}))
    _read_tty(second, "still 2")
    second.send(json.dumps({"data": "exit\n"}))
    _receive_until_broken(second)
    for socket in (first, second):
        end_socket(socket)


def test_terminals_of_jupyter_are_there(machine: Machine) -> None:
    made = ask("POST", f"{machine.url}/api/terminals", headers=machine.headers, body=b"")
    assert made.status == 200
    assert [one["name"] for one in machine.get("/api/terminals").json] == [made.json["name"]]


def _end_kernels(machine: Machine) -> None:
    for one in machine.get("/api/kernels").json:
        ask("DELETE", f"{machine.url}/api/kernels/{one['id']}", headers=machine.headers)


def _receive_until_broken(socket: websocket.WebSocket) -> None:
    """Returns when the other end is gone; fails with a timeout when it is not."""
    try:
        while socket.recv():
            pass
    except websocket.WebSocketTimeoutException:
        raise
    except (websocket.WebSocketException, OSError):
        pass


def _put(machine: Machine, url: str, body: dict[str, str]) -> Reply:
    return ask("PUT", url, headers=machine.headers, body=json.dumps(body).encode())


def _wait_for_busy(kernel: Kernel) -> None:
    while kernel.receive()["msg_type"] != "execute_input":
        pass


def _open_tty(machine: Machine) -> websocket.WebSocket:
    url = f"{machine.url}/colab/tty?colab-runtime-proxy-token={machine.token}"
    return websocket.create_connection(url.replace("http", "ws", 1), timeout=20)


def _read_tty(socket: websocket.WebSocket, wanted: str) -> None:
    """Until that was printed, not only typed."""
    seen = ""
    while not re.search(rf"[\r\n]{re.escape(wanted)}", seen):
        seen += json.loads(socket.recv())["data"]


def _runs(command: str) -> bool:
    """Whether some process of this computer is that."""
    wanted = command.replace(" ", "\0").encode() + b"\0"
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if file.read() == wanted:
                    return True
        except OSError:
            continue
    return False
