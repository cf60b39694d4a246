"""start (runtime-spec, runtime.md, "Operations"); a room of its own, as it needs hardly anything of what `create` does."""

from __future__ import annotations

from minidocker.cli.oci import report, surroundings
from minidocker.errors import StateError
from minidocker.runtime import handover, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minidocker.cli.oci.parse import Call
    from minidocker.runtime.store import Home


def start(call: Call) -> int:
    """Have the program of a created container run."""
    with surroundings.store(call).find(call.arguments[0]) as home:
        home.lock_or_fail("start")
        let_run(home)
    return 0


def let_run(home: Home) -> None:
    """The same for a container whose lock is held. One whose start fails is stopped then, and the caller's to delete."""
    known = home.state()
    status = home.status(known)
    if status != state.CREATED:
        raise StateError(f"cannot start container `{home.id}`: it is {status}, not created")
    handover.start(home.path, known.listens)
    if known.hooks.get("poststart"):
        from minidocker.runtime import hooks

        # one that fails is told of, the others follow (runtime.md of 1.0 to 1.2, "Lifecycle", 9; crun does so, runc kills the container)
        for trouble in hooks.run_each(known.hooks["poststart"], known.oci(state.RUNNING)):
            report.warn(f"container `{home.id}`: poststart: {trouble}")
