"""What ps(1) of the host's procps says of some processes."""

from __future__ import annotations

from minidocker.errors import UsageError
from minidocker.kernel.process import run_tool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

# ps(1), "STANDARD FORMAT SPECIFIERS": those that say something of a process in a container
_NAMES = """
    %cpu %mem args blocked bsdstart bsdtime c caught cgroup class cmd comm command cp cputime drs egid egroup eip esp
    etime etimes euid euser exe f fgid fgroup flag flags fname fuid fuser gid group ignored ipcns label lstart lwp lxc
    machine maj_flt min_flt mntns netns ni nice nlwp numa nwchan ouid pcpu pending pgid pgrp pid pidns pmem policy ppid
    pri psr pss rgid rgroup rss rssize rsz rtprio ruid ruser s sched seat sess sgi_p sgid sgroup sid sig size slice
    stackp start start_time stat state stime suid supgid supgrp suser svgid svuid sz tgid thcount tid time times tname
    tpgid trs tt tty ucmd ucomm uid uname unit user userns uss utsns uunit vsize vsz wchan
"""
COLUMNS = frozenset(_NAMES.split())
_PID_WIDTH = 20  # of a column that we put in front, and take away again


def options(pids: Collection[int], words: Sequence[str]) -> str:
    """The lines of `ps WORDS` about these processes, under their headings. UsageError for options that ps does not take, or by which it
    shows no column PID; UnsupportedError without ps."""
    heading, lines = _listed(words)
    columns = heading.split()
    if "PID" not in columns:
        raise UsageError(f"ps {' '.join(words)} shows no column PID, by which the container's processes are known")
    at = columns.index("PID")
    wanted = set(map(str, pids))
    kept = [line for line in lines if (fields := line.split())[at : at + 1] and fields[at] in wanted]
    return "".join(f"{line}\n" for line in (heading, *kept))


def columns(pids: Collection[int], names: Sequence[str]) -> str:
    """The same with the columns of these names (COLUMNS)."""
    heading, lines = _listed(["-e", "-ww", "-o", f"pid:{_PID_WIDTH}", "-o", ",".join(names)])
    wanted = set(map(str, pids))
    kept = [line for line in lines if line[:_PID_WIDTH].strip() in wanted]
    return "".join(f"{line[_PID_WIDTH + 1 :]}\n" for line in (heading, *kept))


def _listed(words: Sequence[str]) -> tuple[str, list[str]]:
    code, listed, error = run_tool(["ps", *words])
    if code:
        why = error.decode(errors="replace").strip().splitlines()[0] if error.strip() else f"exit {code}"
        raise UsageError(f"ps {' '.join(words)}: {why}")
    heading, *lines = listed.decode(errors="surrogateescape").splitlines() or [""]
    return heading, lines
