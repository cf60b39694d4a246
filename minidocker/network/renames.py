"""A container that is called otherwise from now on, as steps: its lines in hosts files, and its name of `ip netns`."""

from __future__ import annotations

from minidocker.network import names
from minidocker.plan import FILESYSTEM, NETWORK, At, Step, inline, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class RenameNetns(Step):
    """That name by another: the container is called so from now on."""

    title = NETWORK
    why = "`ip netns exec` by its new name"

    def __init__(self, old: str, new: str, inode: int, pid: int) -> None:
        self.old = old
        self.new = new
        self.inode = inode
        self.pid = pid

    def shell(self) -> str:
        old, new = (quote(f"{names.NETNS_DIRECTORY}/{name}") for name in (self.old, self.new))
        return f'[ "$(readlink {old})" != "/proc/{self.pid}/ns/net" ] || rm {old}\n[ -e {new} ] || ln -s "/proc/{self.pid}/ns/net" {new}'

    def apply(self, at: At) -> None:
        names.withdraw_netns(self.old, self.inode, self.pid)
        names.publish_netns(self.new, self.pid)

    def undo(self, at: At) -> None:
        names.withdraw_netns(self.new, self.inode, self.pid)
        names.publish_netns(self.old, self.pid)


class Rename(Step):
    """A container's lines in the hosts files of a network by other names: `old` and `new` are hosts_lines'."""

    title = FILESYSTEM
    why = "its neighbours find it by its new name"

    def __init__(self, directory: str, container_id: str, ips: Sequence[str], old: str, new: str) -> None:
        self.directory = directory
        self.container_id = container_id
        self.ips = [ip for ip in ips if ip]
        self.old = old
        self.new = new

    def shell(self) -> str:
        out = " ".join(f"-e {quote(f'/^{ip}	.* {self.container_id[:names.SHORT_ID]}$/d')}" for ip in self.ips)
        files = f"{quote(self.directory)}/{names.HOSTS}"
        return f'for file in {files}*; do text=$(sed {out} "$file") && printf "%s\\n%s" "$text" {inline(self.new)} > "$file"; done'

    def describe(self) -> str:
        return f"rename {self.container_id[:names.SHORT_ID]} in `{self.directory}`"

    def apply(self, at: At) -> None:
        names.rename(self.directory, self.container_id, self.ips, self.new)

    def undo(self, at: At) -> None:
        names.rename(self.directory, self.container_id, self.ips, self.old)
