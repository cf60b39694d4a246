"""A bundle on disk: its directory, and the configuration in it (runtime-spec, bundle.md)."""

from __future__ import annotations

import os

from minidocker.errors import MinidockerError, UsageError
from minidocker.spec import oci_config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LARGEST = 64 << 20  # what is read of a file that somebody else gave us


def load(directory: str, config: str) -> tuple[dict[str, Any], str]:
    """(the configuration, checked and made whole, the bundle's absolute path). `config` is its file's name, relative to the working
    directory; "" is config.json in the bundle. UsageError, MinidockerError."""
    bundle = os.path.abspath(directory)
    if not os.path.isdir(bundle):
        raise UsageError(f"the bundle `{bundle}` is not a directory")
    return oci_config.configuration(read(config or f"{bundle}/config.json"), bundle), bundle


def read(path: str) -> bytes:
    """The file at `path`, "-" being stdin. MinidockerError."""
    try:
        with open(0 if path == "-" else path, "rb", buffering=0, closefd=path != "-") as file:
            parts = []
            size = 0
            while part := file.read(1 << 20):
                parts.append(part)
                size += len(part)
                if size > _LARGEST:
                    raise MinidockerError(f"read `{path}`: it is larger than {_LARGEST >> 20} MiB")
            return b"".join(parts)
    except OSError as error:
        raise MinidockerError(f"read `{path}`: {(error.strerror or '').lower()}") from error
