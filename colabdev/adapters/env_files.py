"""Files of variables, in the form that dotenv made usual."""

from __future__ import annotations

from pathlib import Path

from dotenv.parser import parse_stream

from colabdev.errors import UsageError

_HINT = "a line is NAME=VALUE; quotes, comments and `export` are understood"


def read_env_file(path: Path) -> dict[str, str]:
    """The variables in the file, as they stand there: `${OTHER}` is not replaced, because what it
    means here is not what it means on the runtime. UsageError says what is wrong, never with a value."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            bindings = list(parse_stream(file))
    except UnicodeDecodeError as exc:
        raise UsageError(f"cannot read {path}: it is not UTF-8 text", hint=_HINT) from exc
    except OSError as exc:
        raise UsageError(
            f"cannot read {path}: {exc.strerror or exc}", hint="name a file that can be read"
        ) from exc
    variables = {}
    for binding in bindings:
        if binding.error or (binding.key is not None and binding.value is None):
            raise UsageError(
                f"cannot read {path}: line {binding.original.line} sets no variable", hint=_HINT
            )
        if binding.key is not None and binding.value is not None:
            variables[binding.key] = binding.value
    return variables
