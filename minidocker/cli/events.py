"""`events`: a line for each, in docker's form, as JSON or by a template."""

from __future__ import annotations

import time

from minidocker.cli import output
from minidocker.errors import UsageError
from minidocker.spec import parse_time, template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minidocker.cli.call import Call


def events(call: Call) -> int:
    """Those that have been since --since, and those to come, until --until or Ctrl-C."""
    now = time.time()
    since, until = (None if (text := call.text(name)) is None else parse_time.since(text, now, time.mktime, f"--{name}")
                    for name in ("since", "until"))  # fmt: skip
    filters = [_filter(text) for text in call.list("filter")]
    format = call.text("format")
    parts = None if format in (None, "json") else template.compile(format or "")
    host = call.host()
    from minidocker.engine.events import watch

    for event in watch(host, since, until, filters):
        if parts is not None:
            output.say(template.render(parts, _document(event)))
        elif format == "json":
            output.say(template.to_json(_json(event)))
        else:
            output.say(line(event))
    return 0


def _filter(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    if not value:
        raise UsageError(f"--filter `{text}` is not KEY=VALUE", "container=, event=, label=, network= and type= with a value are allowed")
    return key, value


def line(event: dict[str, Any]) -> str:
    """`2026-11-24T14:00:00.123456789Z container die ID (exitCode=3, name=web)`, in local time."""
    seconds, nanoseconds = divmod(event["time"], 1_000_000_000)
    local = time.localtime(seconds)
    zone = time.strftime("%z", local)
    stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{nanoseconds:09d}{zone[:3]}:{zone[3:]}"
    attributes = ", ".join(f"{key}={value}" for key, value in sorted(_attributes(event).items()))
    return output.printable(f"{stamp} {event['type']} {event['action']} {event['id']} ({attributes})")


def _attributes(event: dict[str, Any]) -> dict[str, str]:
    return {"name": event["name"], **event["attributes"]}


def _document(event: dict[str, Any]) -> dict[str, Any]:
    """Docker's names for a template."""
    return {
        "Type": event["type"], "Action": event["action"], "Actor": {"ID": event["id"], "Attributes": _attributes(event)},
        "ID": event["id"], "Status": event["action"], "Scope": "local", "Time": event["time"] // 1_000_000_000, "TimeNano": event["time"],
    }  # fmt: skip


def _json(event: dict[str, Any]) -> dict[str, Any]:
    """Docker's object of its API; a container's event has its action and its id twice there."""
    document = _document(event)
    old = {"status": event["action"], "id": event["id"]} if event["type"] == "container" else {}
    return {**old, **{key: document[key] for key in ("Type", "Action", "Actor")}, "scope": "local", "time": document["Time"],
            "timeNano": event["time"]}  # fmt: skip
