"""Step and Plan: everything minidocker does to the kernel, as values.

A `Step` is one effect: it can be applied, undone, and said as the command a person would type. A `Plan` is the list of
them in order; running, rolling back, dry-running and explaining are four ways of walking the same list:

    steps ──► Plan ─┬─ run(at, PARENT)      the monitor applies its slice; on failure what was applied is undone in reverse
                    ├─ run(at, CHILD)       the container's first process applies its own slice; its undo is its death
                    ├─ explain()            every command under short titles, each with its reason
                    └─ script()             the same as a bash script that runs as it stands

What only the running system knows (the child's pid, its namespaces) is not in a Step: it is read from `At` when a step is
applied, and stands as `$PID` in the script.
"""

from __future__ import annotations

from minidocker.errors import KernelError, MinidockerError, NotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Tell = Callable[..., None]  # (make: () -> Plan, pid: int = 0)

PARENT = "parent"
CHILD = "child"
START = "start"  # the parent again, once all stands

# The script's texts besides the parent's own: what the child does before it has namespaces of its own, in them (its default), and when
# it has become the container's user and waits for its root.
OUTSIDE = "OUTSIDE"
INSIDE = "INSIDE"
PROGRAM = "PROGRAM"
_TYPED = {PARENT: PARENT, START: PARENT, CHILD: INSIDE}

# The titles steps are grouped under, in the order a reader meets them.
CGROUP = "cgroup"
NAMESPACES = "namespaces"
NETWORK = "network"
FILESYSTEM = "filesystem"
PRIVILEGES = "privileges"
EXEC = "exec"


class At:
    """Where a plan is being applied: what is known only now.

    `pid` is the container's first process as the parent sees it; `netns` an open descriptor of its network namespace;
    `root` an O_PATH descriptor of the root file system being built (child only). -1 is "not yet".
    """

    __slots__ = ("netns", "pid", "root")

    def __init__(self, pid: int = -1, netns: int = -1, root: int = -1) -> None:
        self.pid = pid
        self.netns = netns
        self.root = root


class Step:
    """One effect on the kernel or the disk.

    Subclasses set `actor`, `title` and `why` (class or instance attributes) and define `shell` and `apply`; `undo` where the effect
    outlives the process that made it. `undo` is idempotent and tolerates "already gone". `typed` says in which text of the script its
    commands stand where that is not its actor's; `needs` are (a bash test, what to say where it fails) of what must be so before anything
    is done.
    """

    actor = PARENT
    title = ""
    why = ""
    typed = ""
    needs: Sequence[tuple[str, str]] = ()

    def shell(self) -> str:
        """The equivalent command or commands, one a line, quoted for bash; `$PID` is the container's first process."""
        raise NotImplementedError

    def apply(self, at: At) -> None:
        """Do it. Raises MinidockerError or OSError."""
        raise NotImplementedError

    def undo(self, at: At) -> None:
        """Take it back."""

    def describe(self) -> str:
        """What an error message calls this step."""
        return self.shell().partition("\n")[0]


def silent(make: Callable[[], Plan], pid: int = 0) -> None:
    """Whom nobody has asked to explain: what `make` would return is not even made. Of the same kind is what the command line hands over
    with --explain."""


class Plan:
    """Steps in the order in which they happen."""

    __slots__ = ("steps",)

    def __init__(self, steps: Iterable[Step] = ()) -> None:
        self.steps: list[Step] = list(steps)

    def __add__(self, other: Plan) -> Plan:
        return Plan([*self.steps, *other.steps])

    def run(self, at: At, actor: str = PARENT) -> list[Step]:
        """Apply this actor's steps in order and return them.

        When one fails, the parent's earlier ones are undone in reverse and the failure is raised, with what undoing met
        after it in the message. A child undoes nothing: all it did dies with it.
        """
        done: list[Step] = []
        for step in self.steps:
            if step.actor != actor:
                continue
            try:
                step.apply(at)
            except (OSError, MinidockerError) as error:
                cause = error if isinstance(error, MinidockerError) else KernelError.of(step.describe(), error)
                if actor == PARENT:
                    for trouble in undo(done, at):
                        cause.message += f"; cleaning up then met: {trouble}"
                raise cause from error
            done.append(step)
        return done

    def clear(self, at: At) -> list[str]:
        """Apply the parent's steps, all of them whatever fails, and those that failed once more, and return what went wrong even so, one
        line each (DESIGN.md, law 2). They take away, which can be done twice; and who has no memory, or is busy, seldom is for long, while
        nobody comes back to what is left here."""
        failed = [step for step in self.steps if _met(step, step.apply, at)]
        return [trouble for step in failed if (trouble := _met(step, step.apply, at))]

    def explain(self, pid: int = 0) -> str:
        """For a reader: the commands under their titles, each with its reason; `pid` stands for `$PID` where it is known."""
        lines: list[str] = []
        for title, steps in _grouped(self.steps):
            lines.append(f"# {title}" if not lines else f"\n# {title}")
            for step in steps:
                where = "in the container: " if _place(step) != PARENT else ""
                if step.why:
                    lines.append(f"  # {where}{step.why}")
                lines.extend("  " + line for line in step.shell().splitlines())
        text = "\n".join(lines) + "\n" if lines else ""
        return text.replace('"$PID"', str(pid)).replace("$PID", str(pid)) if pid else text

    def script(self, afterwards: Plan) -> str:
        """A bash script that does what the plan does, as it stands, and at its end, however it ends, `afterwards`.

        The parent's steps in their order; the child's as three texts: OUTSIDE ends in `exec unshare ... "$INSIDE"`, and that in
        `exec setpriv ... "$PROGRAM"`: so every tool that is used is the host's, and the container's root may hold the program alone.
        """
        texts: dict[str, list[Step]] = {OUTSIDE: [], INSIDE: [], PROGRAM: [], PARENT: []}
        for step in self.steps:
            texts[_place(step)].append(step)
        parts = [f"{name}=$(cat <<'{name}_END'\nset -euo pipefail\n{_commands(texts[name])}\n{name}_END\n)"
                 for name in (OUTSIDE, INSIDE, PROGRAM) if texts[name]]
        parts += [_cleanup(afterwards), _commands(texts[PARENT])]
        return "\n".join([_HEAD, *_requirements(self.steps, "\n".join(parts)), *parts, 'wait "$CHILD"']) + "\n"


_HEAD = """\
#!/bin/bash
# What minidocker would do, by hand. Left out, as no command of a stock system does it: the seccomp filter, and the session keyring.
set -euo pipefail
umask 022
stop() { echo "$0: $1" >&2; exit 125; }
[ "$(id -u)" = 0 ] || stop 'this must be run as root'"""

# What the steps may type that a shell does not have built in, by the Debian package that it is in.
_TOOLS = """
    iproute2: ip    nftables: nft    procps: pgrep sysctl    mount: mount umount    hostname: hostname
    util-linux: findmnt nsenter pivot_root prlimit setpriv setsid unshare
"""


def _requirements(steps: Iterable[Step], text: str) -> list[str]:
    """What must be so before anything is done: tests at the top, so that a script that cannot go through does not begin."""
    typed = set(text.split())
    lines: list[str] = []
    package = ""
    for word in _TOOLS.split():
        if word[-1] == ":":
            package = word[:-1]
        elif word in typed:
            lines.append(f"type -P {word} > /dev/null || stop '{word} is not installed: apt-get install {package}'")
    return lines + [f"{test} || stop {quote(message)}" for step in steps for test, message in step.needs]


def _cleanup(afterwards: Plan) -> str:
    """A trap of `afterwards`; what it finds gone already is no matter, and what it met is told by the script's own failure."""
    body = _commands(afterwards.steps).replace("\n", "\n  ")
    return f"\n# at the end, however it comes\nclean_up() {{\n  set +eu\n  {body}\n}}\ntrap 'clean_up 2> /dev/null' EXIT\n"


def _place(step: Step) -> str:
    return step.typed or _TYPED[step.actor]


def _commands(steps: Sequence[Step]) -> str:
    lines: list[str] = []
    for title, group in _grouped(steps):
        lines.append(f"\n# --- {title}")
        for step in group:
            if step.why:
                lines.append(f"# {step.why}")
            lines.append(step.shell())
    return "\n".join(lines).strip("\n")


def undo(steps: Sequence[Step], at: At) -> list[str]:
    """Undo `steps` in reverse, all of them, those that failed once more, and return what went wrong even so, one line each (DESIGN.md,
    law 2)."""
    failed = [step for step in reversed(steps) if _met(step, step.undo, at)]
    return [trouble for step in failed if (trouble := _met(step, step.undo, at))]


def _met(step: Step, do: Callable[[At], None], at: At) -> str:
    """What kept a step from being taken away, "" where nothing did, or it is gone already."""
    try:
        do(at)
    except NotFoundError:
        return ""
    except (OSError, MinidockerError) as error:
        return str(KernelError.of(step.describe(), error) if isinstance(error, OSError) else error)
    return ""


def _grouped(steps: Iterable[Step]) -> list[tuple[str, list[Step]]]:
    groups: list[tuple[str, list[Step]]] = []
    for step in steps:
        if not groups or groups[-1][0] != step.title:
            groups.append((step.title, []))
        groups[-1][1].append(step)
    return groups


def quote(word: str) -> str:
    """`word` as one bash word. (shlex.quote would cost the import of re.)"""
    if word and all(c.isascii() and (c.isalnum() or c in "@%+=:,./-_") for c in word):
        return word
    return "'" + word.replace("'", "'\"'\"'") + "'"


def inline(text: str) -> str:
    """`text`, of several lines, as one bash word in one: it may be indented, where it is shown, and is still the same."""
    if "\n" not in text and "\t" not in text:
        return quote(text)
    for character, escaped in (("\\", r"\\"), ("'", r"\'"), ("\n", r"\n"), ("\t", r"\t")):
        text = text.replace(character, escaped)
    return f"$'{text}'"
