"""`cp` and `diff`: a container's files."""

from __future__ import annotations

import os

from minidocker.cli import output
from minidocker.errors import UsageError
from minidocker.spec import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minidocker.cli.call import Call


def copy(call: Call) -> int:
    """`cp`: silent, but for what it leaves out, and on a terminal how much it was."""
    (from_, source), (to, target) = map(side, call.arguments)
    if bool(from_) == bool(to):
        what = "both are containers'" if from_ else "neither is a container's"
        raise UsageError(f"cp {call.arguments[0]} {call.arguments[1]}: {what}", "one of the two is CONTAINER:PATH, the other a path or `-`")
    host = call.host()
    from minidocker.engine import copying

    copying.check(source if to else "", target if from_ else "")
    keep, follow = call.flag("archive"), call.flag("follow_link")
    here = os.getcwd()
    if from_:
        copied = copying.out(host, from_, inside(source), outside(target, here), keep=keep, follow=follow, notice=output.notice)
    else:
        copied = copying.into(host, to, outside(source, here), inside(target), keep=keep, follow=follow, notice=output.notice)
    if os.isatty(output.STDERR):
        output.notice(f"{copied.files} file{'s' * (copied.files != 1)} copied")
    return 0


def side(text: str) -> tuple[str, str]:
    """CONTAINER:PATH as (container, path), a path of the host's as ("", path): absolute, or what has no colon or begins with a dot."""
    container, colon, path = text.partition(":")
    if text.startswith(("/", ".")) or not colon:
        return "", text
    if not container or not path:
        raise UsageError(f"cp `{text}`: CONTAINER:PATH is needed", "a file of the host's with a colon in its name is written ./a:b")
    return container, path


def inside(path: str) -> str:
    """A container's path, which begins at its root; what stands at its end stays, as it has a meaning."""
    return path if path.startswith("/") else "/" + path


def outside(path: str, here: str) -> str:
    """A path of the host's, absolute; `-` stays."""
    return path if path == "-" or path.startswith("/") else f"{here}/{path}"


def changes(call: Call) -> int:
    """`diff`: a line each, `A /path`; what could move the cursor in a name stands as its escape."""
    format = call.text("format")
    if format is not None:
        parse.choice("--format", format, ("json",))
    host = call.host()
    from minidocker.engine import changes as engine

    found = engine.diff(host, call.arguments[0])
    if format is None:
        output.say_text("".join(f"{kind} {output.printable(path)}\n" for kind, path in found))
    else:
        from minidocker.spec import template

        output.say(template.to_json([{"Kind": kind, "Path": path} for kind, path in found], indent=4))
    return 0
