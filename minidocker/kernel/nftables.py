"""nftables: one atomic transaction a change by the `nft` program, and one question asked of the kernel directly.

The only caller of nft. Text goes in and out by memory files, not pipes: neither side can ever wait for the other. nft(8),
linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import errno
import os
from _struct import Struct

from minidocker.errors import KernelError, MinidockerError, UnsupportedError
from minidocker.kernel.netlink import Message, netfilter, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NFPROTO = {"inet": 1, "ip": 2, "arp": 3, "netdev": 5, "bridge": 7, "ip6": 10}
_NFNL_SUBSYS_NFTABLES, _NFT_MSG_GETTABLE, _NFT_MSG_GETCHAIN = 10, 1, 4
_NFTA_TABLE_NAME, _NFTA_CHAIN_TABLE, _NFTA_CHAIN_NAME = 1, 1, 3
_NFGENMSG = Struct("=BBH")  # struct nfgenmsg: family, version, resource
_SBIN = ("/usr/sbin", "/sbin", "/usr/local/sbin")


class NftError(MinidockerError):
    """nft refused a script: the first line of what it said."""

    @property
    def clash(self) -> bool:
        """Whether the cause is a map's key that has another value already (EEXIST; before Linux 4.15 EBUSY)."""
        return any(os.strerror(number) in self.message for number in (errno.EEXIST, errno.EBUSY))


def apply(script: str) -> None:
    """Run `script` as one transaction: all of it holds afterwards, or none of it. Raises NftError, UnsupportedError."""
    _nft(["-f", "-"], script)


def list_table(family: str, name: str) -> str:
    """The table as nft prints it. Raises NftError where there is none."""
    return _nft(["list", "table", family, name])


def list_table_json(family: str, name: str) -> list[dict[str, Any]]:
    """The table's objects as nft's JSON has them (libnftables-json(5)). Cold paths only."""
    import json

    found: list[dict[str, Any]] = json.loads(_nft(["-j", "list", "table", family, name]))["nftables"]
    return found


def list_ruleset_json() -> list[dict[str, Any]]:
    """Everybody's objects, as nft's JSON has them. Cold paths only."""
    import json

    found: list[dict[str, Any]] = json.loads(_nft(["-j", "list", "ruleset"]))["nftables"]
    return found


def list_ruleset_text() -> str:
    """Everybody's rules as nft prints them, with their handles and without the elements of sets. Cold paths only."""
    return _nft(["-a", "-t", "list", "ruleset"])


class Owned:
    """Tables that end with this object, or with the process, however it ends: with `flags owner` the kernel takes a table away when the
    netlink socket that made it closes (Linux 5.12, NFT_TABLE_F_OWNER). libnftables, because nft itself ends at once. Cold paths only."""

    __slots__ = ("_context", "_library")

    def __init__(self) -> None:
        import ctypes

        try:
            library = ctypes.CDLL("libnftables.so.1")
        except OSError as error:
            raise UnsupportedError("the library libnftables.so.1 is missing: rules that watch packets need it",
                                   "apt-get install libnftables1") from error
        pointer = ctypes.c_void_p
        library.nft_ctx_new.restype = library.nft_ctx_get_error_buffer.restype = pointer
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
        for function in (library.nft_ctx_get_error_buffer, library.nft_ctx_buffer_error, library.nft_ctx_free):
            function.argtypes = [pointer]
        library.nft_run_cmd_from_buffer.argtypes = [pointer, ctypes.c_char_p]
        self._library = library
        self._context = library.nft_ctx_new(0)
        library.nft_ctx_buffer_error(self._context)

    def apply(self, script: str) -> None:
        """One transaction, as `apply`."""
        if self._library.nft_run_cmd_from_buffer(self._context, script.encode()):
            said = self._library.nft_ctx_get_error_buffer(self._context).decode(errors="replace")
            raise NftError(f"change nftables: {_first_line(said) or 'no reason given'}")

    def close(self) -> None:
        """The tables go with the socket."""
        self._library.nft_ctx_free(self._context)


def tables(family: str) -> list[str]:
    """The names of the family's tables. Cold paths only."""
    return [line.split()[2] for line in _nft(["list", "tables", family]).splitlines()]


def table_exists(family: str, name: str) -> bool:
    """Whether the kernel has the table: one message and its answer, some 30 us."""
    return _exists(table_get(family, name))


def chain_exists(family: str, table: str, name: str) -> bool:
    """Whether the kernel has the chain; as cheap."""
    return _exists(chain_get(family, table, name))


def _exists(asked: Message) -> bool:
    try:
        netfilter().get(asked)
    except KernelError as error:
        # A kernel without nftables refuses the socket, or knows no such subsystem: there is nothing in it either.
        if error.errno in (errno.ENOENT, errno.EPROTONOSUPPORT, errno.EINVAL):
            return False
        raise
    return True


def table_get(family: str, name: str) -> Message:
    """The message that asks for one table."""
    return Message.build(f"look up nftables table `{family} {name}`", _NFNL_SUBSYS_NFTABLES << 8 | _NFT_MSG_GETTABLE, 0,
                         _NFGENMSG.pack(NFPROTO[family], 0, 0), text(_NFTA_TABLE_NAME, name))


def chain_get(family: str, table: str, name: str) -> Message:
    """The message that asks for one chain."""
    return Message.build(f"look up nftables chain `{family} {table} {name}`", _NFNL_SUBSYS_NFTABLES << 8 | _NFT_MSG_GETCHAIN, 0,
                         _NFGENMSG.pack(NFPROTO[family], 0, 0), text(_NFTA_CHAIN_TABLE, table), text(_NFTA_CHAIN_NAME, name))


def quoted(name: str) -> str:
    """An interface's name as nft reads it."""
    return f'"{name}"'


def _nft(arguments: list[str], script: str = "") -> str:
    """Run nft with `script` as its input; its output. Raises NftError with the first line of its complaint."""
    program = _find()
    given = _memory("nft-input", script.encode())
    told = _memory("nft-output")
    complained = _memory("nft-errors")
    try:
        pid = os.posix_spawn(program, ["nft", *arguments], os.environ, file_actions=[
            (os.POSIX_SPAWN_DUP2, given, 0), (os.POSIX_SPAWN_DUP2, told, 1), (os.POSIX_SPAWN_DUP2, complained, 2)])
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status != 0:
            raise NftError(f"change nftables: {_first_line(_content(complained)) or f'nft ended with status {status}'}")
        return _content(told)
    except OSError as error:
        raise KernelError.of(f"run `{program}`", error) from error
    finally:
        for fd in (given, told, complained):
            os.close(fd)


def _find() -> str:
    """nft's path: root's PATH lacks the sbin directories after a plain su."""
    for directory in (*os.environ.get("PATH", "").split(":"), *_SBIN):
        if directory.startswith("/") and os.access(f"{directory}/nft", os.X_OK):
            return f"{directory}/nft"
    from minidocker.kernel import packages

    raise UnsupportedError("the program `nft` is missing: bridges, masquerading and published ports need it", packages.install("nftables"))


def _memory(name: str, content: bytes = b"") -> int:
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    if content:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _content(fd: int) -> str:
    size = os.fstat(fd).st_size
    return os.pread(fd, size, 0).decode(errors="replace")


def _first_line(said: str) -> str:
    """`Error: No such file or directory; did you mean ...` without its prefix, and without the place in the script."""
    line = said.strip().partition("\n")[0]
    return line.partition("Error: ")[2] or line
