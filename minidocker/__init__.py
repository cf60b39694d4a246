"""minidocker: a minimal container runtime whose network is in plain view.

From Python: `run`, `containers`, `networks`, `Client` and what they return; errors are in `minidocker.errors`.

    with minidocker.run(["./server", "a"], net="br0", detach=True) as c:
        print(c.ip, c.exec(["ip", "route"]).stdout, c.logs())
"""

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minidocker.api import Client, Container, Network, Notice, Result, containers, networks, run

__all__ = ["Client", "Container", "Network", "Notice", "Result", "containers", "networks", "run"]


def __getattr__(name: str) -> object:
    """The names above (PEP 562): the command line, which needs none of them, loads nothing for them."""
    if name == "errors":  # no `from`, which would ask here again
        import minidocker.errors

        return minidocker.errors
    if name not in __all__:
        raise AttributeError(f"module `minidocker` has no attribute `{name}`")
    from minidocker import api

    return getattr(api, name)
