"""`forward`, `tensorboard`, `jupyter`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from colabdev.cli import output, render_forwards, requests
from colabdev.cli.options import JsonOption, RuntimeOption
from colabdev.core import web_tools
from colabdev.core.forwards import Forward, parse_forward
from colabdev.errors import ExitCode

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring
    from colabdev.core.web_tools import WebTool

BrowserOption = Annotated[
    bool, typer.Option("--browser/--no-browser", help="Open the page in this computer's browser.")
]


def forward(
    ctx: typer.Context,
    ports: Annotated[
        list[str],
        typer.Argument(metavar="PORT…", help="PORT, LOCAL:PORT or LOCAL:HOST:PORT, as for ssh -L."),
    ],
    runtime: RuntimeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Lead ports of this computer to the runtime, until Ctrl-C; a cut is mended.

    Example: colabdev forward 6006 8888:localhost:8888
    """
    wiring: Wiring = ctx.obj
    wanted = [parse_forward(word) for word in ports]
    record = wiring.known_runtimes().choose(wiring.named(runtime), wiring.project_path())
    forwards = wiring.forwards()
    with forwards.reserved(wanted, output.progress) as reserved:
        forwards.serve(record, reserved, output.progress)
        render_forwards.forwarding(record.name, reserved, as_json=as_json)
        forwards.wait(record.name)
    return ExitCode.OK


def tensorboard(
    ctx: typer.Context,
    logdir: Annotated[
        str, typer.Argument(metavar="LOGDIR", help="On the runtime, from the work dir.")
    ] = "runs",
    port: Annotated[int, typer.Option(min=0, max=65535, help="On this computer.")] = 6006,
    browser: BrowserOption = True,
    runtime: RuntimeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Show TensorBoard, which runs on the runtime; Ctrl-C leaves it running there.

    Example: colabdev tensorboard runs
    """
    return _show(
        ctx.obj, web_tools.tensorboard(logdir), port, runtime, browser=browser, as_json=as_json
    )


def jupyter(
    ctx: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="On this computer.")] = 8888,
    browser: BrowserOption = True,
    runtime: RuntimeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Show Jupyter in the work dir on the runtime; Ctrl-C leaves it and its kernels running there.

    Example: colabdev jupyter --no-browser
    """
    return _show(ctx.obj, web_tools.jupyter(), port, runtime, browser=browser, as_json=as_json)


def _show(
    wiring: Wiring,
    tool: WebTool,
    local_port: int,
    runtime: str | None,
    *,
    browser: bool,
    as_json: bool,
) -> int:
    project, env = requests.job_surroundings()
    record = wiring.known_runtimes().choose(wiring.named(runtime), project[0])
    forwards, tools = wiring.forwards(), wiring.web_tools()
    page = tools.find(tool, record, output.progress)
    there = Forward(local_port, "127.0.0.1", page.port)
    with forwards.reserved([there], output.progress) as reserved:
        page = tools.start(page, project, env, output.progress)
        forwards.serve(record, reserved, output.progress)
        url = page.url(reserved[0].local.port)
        render_forwards.page(page, url, as_json=as_json)
        if browser and not wiring.show_page(url, private=bool(page.token)):
            output.progress("no browser was found here; open the address yourself")
        forwards.wait(record.name)
    return ExitCode.OK
