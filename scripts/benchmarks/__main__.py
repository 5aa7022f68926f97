"""`scripts/bench [NAME …] [--only GROUP …] [--json | --markdown] [--rounds N]`: run the named benches,
or all; of one that has groups of rows only those, if any are named."""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys
from types import ModuleType

import benchmarks
from benchmarks.measure import NotRun, Row, render_markdown, render_table, to_json

NOT_BENCHES = {
    *("__main__", "fabric_way", "fidelity", "log_rows", "measure", "slurm", "sync_memory", "way")
}
DEFAULT_ROUNDS = 5


def main() -> None:
    """Run benches one after the other and print their rows. A missed target is no failure."""
    names = sorted(found.name for found in pkgutil.iter_modules(benchmarks.__path__))
    names = [name for name in names if name not in NOT_BENCHES]
    options = _options(names)
    rows: list[Row | NotRun] = []
    for name in options.names or names:
        print(f"bench {name} …", file=sys.stderr)
        rows += _run(importlib.import_module(f"benchmarks.{name}"), options)
    if options.json:
        print(json.dumps(to_json(rows), indent=2))
    else:
        print(render_markdown(rows) if options.markdown else render_table(rows))


def _options(names: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=main.__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(names)}")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--markdown", action="store_true", help="the rows of the README's table")
    parser.add_argument(
        "--only", action="append", default=[], metavar="GROUP", help="of a bench that has groups"
    )
    parser.add_argument("--rounds", type=int, help="instead of what each bench needs")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in names]:
        parser.error(f"no such bench: {', '.join(unknown)}; there are {', '.join(names)}")
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def _run(bench: ModuleType, options: argparse.Namespace) -> list[Row | NotRun]:
    rounds = options.rounds or getattr(bench, "ROUNDS", DEFAULT_ROUNDS)
    groups = getattr(bench, "GROUPS", {"": bench.run} if hasattr(bench, "run") else {})
    if unknown := [name for name in options.only if name not in groups]:
        raise SystemExit(f"no such group: {', '.join(unknown)}; there are {', '.join(groups)}")
    rows: list[Row | NotRun] = []
    for name in options.only or groups:
        print(f"  {name}", file=sys.stderr, flush=True)
        rows += groups[name](rounds)
    return rows


if __name__ == "__main__":
    main()
