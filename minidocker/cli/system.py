"""The commands on minidocker itself: info, version, completion."""

from __future__ import annotations

import os
import sys

from minidocker import __version__
from minidocker.cli import output
from minidocker.spec import parse, template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minidocker.cli.call import Call


def info(call: Call) -> int:
    """`info`: what the engine says of this host."""
    parts = _parts(call)
    host = call.host()
    from minidocker.engine.info import info as information

    _print(call, parts, information(host))
    return 0


def version(call: Call) -> int:
    """`version`: ours, the interpreter's, the kernel's."""
    system = os.uname()
    _print(
        call,
        _parts(call),
        {
            "Version": __version__,
            "Python": ".".join(map(str, sys.version_info[:3])),
            "Kernel": system.release,
            "Os": system.sysname.lower(),
            "Arch": system.machine,
        },
    )
    return 0


def completion(call: Call) -> int:
    """`completion`: the script for one shell, which asks minidocker itself for the words."""
    shell = parse.choice("shell", call.arguments[0], ("bash", "zsh", "fish"))
    from minidocker.cli.shells import SCRIPTS

    output.say_text(SCRIPTS[shell])
    return 0


def _parts(call: Call) -> list[str | template.Field] | None:
    """The compiled template; None for the plain list and for JSON."""
    format = call.text("format")
    return None if format is None or format == "json" else template.compile(format)


def _print(call: Call, parts: list[str | template.Field] | None, document: dict[str, object]) -> None:
    if parts is not None:
        output.say(template.render(parts, document))
    elif call.text("format") == "json":
        output.say(template.to_json(document))
    else:
        output.say_text(_lines(document, ""))


def _lines(document: dict[str, object], indent: str) -> str:
    """`Key: value` a line, what is nested indented below its key."""
    lines = []
    for key, value in document.items():
        if isinstance(value, dict):
            lines.append(f"{indent}{key}:\n" + _lines(value, indent + "  "))
        elif isinstance(value, list) and any(isinstance(item, str) and " " in item for item in value):  # sentences
            lines.append(f"{indent}{key}:\n" + "".join(f"{indent}  {item}\n" for item in value))
        else:
            shown = ", ".join(map(template.text_of, value)) if isinstance(value, (list, tuple)) else template.text_of(value)
            lines.append(f"{indent}{key}: {shown if value not in (None, '', [], ()) else '-'}\n")
    return "".join(lines)
