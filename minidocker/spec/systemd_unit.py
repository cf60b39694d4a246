"""Unit files that have systemd start containers when the host boots (systemd.service(5), systemd.unit(5)). Pure."""

from __future__ import annotations

_RESTART = {"no": "no", "on-failure": "on-failure", "always": "always", "unless-stopped": "always"}
_GRACE = 20  # seconds that our own tidying up may take besides what the container is given


def quote(word: str) -> str:
    """A word of a command line: no specifier, no variable, no blank of it means anything (systemd.service(5), "Command lines")."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t").replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if not word or any(not (c.isalnum() or c in "-_./:=,@+%$") for c in word) else escaped


def line(words: list[str]) -> str:
    return " ".join(map(quote, words))


def _unit(description: str, root: str, service: list[str]) -> str:
    said = [
        "[Unit]", f"Description={description.replace('%', '%%')}", "Wants=network-online.target", "After=network-online.target",
        f"RequiresMountsFor={quote(root)}", "", "[Service]", *service, "", "[Install]", "WantedBy=multi-user.target",
    ]  # fmt: skip
    return "\n".join(said) + "\n"


def boot(program: list[str], root: str) -> str:
    """What starts again all that should be up."""
    service = ["Type=oneshot", "RemainAfterExit=yes", f"ExecStart={line([*program, 'system', 'boot'])}", "TimeoutStartSec=infinity"]
    return _unit("minidocker: containers that are to be up", root, service)


def container(program: list[str], root: str, name: str, stop_timeout: float) -> str:
    """What starts a container that is there, and stops it; if it ends by itself, its own restart policy has the say."""
    service = [
        "Type=oneshot", "RemainAfterExit=yes", f"ExecStart={line([*program, 'start', name])}", f"ExecStop={line([*program, 'stop', name])}",
        _patience(stop_timeout),
    ]  # fmt: skip
    return _unit(f"minidocker: container {name}", root, service)


def anew(program: list[str], root: str, name: str, words: list[str], directory: str, policy: str, stop_timeout: float) -> str:
    """What makes a container anew each time, as the unit's main process: `words` the options and the command of `run`. systemd has the
    place of its restart policy."""
    service = [
        "Type=exec", f"WorkingDirectory={directory.replace('%', '%%')}", f"ExecStartPre=-{line([*program, 'rm', '-f', name])}",
        f"ExecStart={line([*program, 'run', '--rm', f'--name={name}', *words])}", f"ExecStop={line([*program, 'stop', name])}",
        "KillMode=mixed", _patience(stop_timeout), f"Restart={_RESTART[policy]}",
    ]  # fmt: skip
    return _unit(f"minidocker: container {name}", root, service)


def _patience(stop_timeout: float) -> str:
    return f"TimeoutStopSec={'infinity' if stop_timeout < 0 else round(stop_timeout + _GRACE)}"
