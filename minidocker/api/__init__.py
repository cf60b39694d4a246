"""minidocker from Python: what `import minidocker` offers, loaded when it is first asked for (see client.py)."""

from __future__ import annotations

from minidocker.api.client import Client
from minidocker.api.container import Container
from minidocker.api.network import Network
from minidocker.api.result import Notice, Result

__all__ = ["Client", "Container", "Network", "Notice", "Result", "containers", "networks", "run"]

_default = Client()
run = _default.run
containers = _default.containers
networks = _default.networks
