"""start (runtime-spec, runtime.md, "Operations"); a room of its own, as it needs hardly anything of what `create` does."""

from __future__ import annotations

from minidocker.cli.oci import surroundings
from minidocker.errors import MinidockerError, StateError
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
    """The same for a container whose lock is held. One whose start fails is destroyed."""
    known = home.state()
    status = home.status(known)
    if status != state.CREATED:
        raise StateError(f"cannot start container `{home.id}`: it is {status}, not created")
    try:
        handover.start(home.path, known.listens)
        if known.hooks.get("poststart"):
            from minidocker.runtime import hooks

            hooks.run(known.hooks["poststart"], known.oci(state.RUNNING))
    except MinidockerError:
        from minidocker.cli.oci import ending

        # "generate an error, stop the container, and continue the lifecycle at step 12": it is destroyed (runtime.md, "Lifecycle", 7 to 9)
        ending.remove(home, kill=True)
        raise
