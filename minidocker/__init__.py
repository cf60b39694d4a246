"""minidocker: a minimal container runtime whose network is in plain view."""

__version__ = "0.1.0"
