"""Mounts: mount(2), the descriptor-based calls of Linux 5.2 and later, pivot_root(2) and openat2(2).

A mount target is always an open descriptor, never a path: between looking a path up and mounting on it, a symbolic
link could have been swapped in. openat2 with RESOLVE_IN_ROOT does the looking up.
"""

from __future__ import annotations

import errno
import os

from minidocker.kernel import foreign as ctypes
from minidocker.kernel import libc
from minidocker.kernel.foreign import c_uint64

# mount(2)
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_REMOUNT = 32
MS_MANDLOCK = 64
MS_DIRSYNC = 128
MS_NOSYMFOLLOW = 256
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_REC = 16384
MS_SILENT = 32768
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_I_VERSION = 1 << 23
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25

# mount_setattr(2)
ATTR_RDONLY = 0x1
ATTR_NOSUID = 0x2
ATTR_NODEV = 0x4
ATTR_NOEXEC = 0x8
ATTR_ATIME = 0x70  # the mask; relatime is 0 in it
ATTR_NOATIME = 0x10
ATTR_STRICTATIME = 0x20
ATTR_NODIRATIME = 0x80
ATTR_NOSYMFOLLOW = 0x200000
_ATTR_IDMAP = 0x100000

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE = 1
_OPEN_TREE_CLOEXEC = os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_MOVE_MOUNT_T_EMPTY_PATH = 0x40
_FSOPEN_CLOEXEC = 1
_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6
_FSMOUNT_CLOEXEC = 1
_MNT_DETACH = 2
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_IN_ROOT = 0x10


class _OpenHow(ctypes.Structure):
    """struct open_how, openat2(2)."""

    _fields_ = (("flags", c_uint64), ("mode", c_uint64), ("resolve", c_uint64))


class _MountAttributes(ctypes.Structure):
    """struct mount_attr, mount_setattr(2)."""

    _fields_ = (("set", c_uint64), ("clear", c_uint64), ("propagation", c_uint64), ("userns_fd", c_uint64))


def mount(source: str, target: str, fstype: str, flags: int, data: str = "") -> None:
    """mount(2) on a path (`/proc/self/fd/N` to mean a descriptor)."""
    libc.mount(os.fsencode(source), os.fsencode(target), fstype.encode() or None, flags, os.fsencode(data) or None)


def set_propagation(target: str, flags: int) -> None:
    """MS_PRIVATE, MS_SLAVE, MS_SHARED or MS_UNBINDABLE, with MS_REC or without, of what is mounted at `target`."""
    libc.mount(None, os.fsencode(target), None, flags, None)


def umount_lazily(target: str) -> None:
    libc.umount2(os.fsencode(target), _MNT_DETACH)


def pivot_root(new_root: str, put_old: str) -> None:
    libc.syscall(libc.SYS.pivot_root, os.fsencode(new_root), os.fsencode(put_old))


def open_in_root(root: int, path: str, flags: int = os.O_PATH, links: bool = True) -> int:
    """Open `path` as a process whose root directory is the descriptor `root` would: no link leads out of it. ELOOP for any link
    without `links`."""
    how = _OpenHow(flags | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS | (0 if links else _RESOLVE_NO_SYMLINKS))
    while True:
        try:
            return libc.syscall(libc.SYS.openat2, root, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
        except OSError as error:
            # EAGAIN: something was renamed or mounted below the root meanwhile and the kernel could not be sure
            if error.errno != errno.EAGAIN:
                raise


def open_plainly(path: str) -> int:
    """Open a file to read, at the end of no link of /proc's (ELOOP); a fifo is not waited for."""
    how = _OpenHow(os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, 0, _RESOLVE_NO_MAGICLINKS)
    return libc.syscall(libc.SYS.openat2, _AT_FDCWD, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))


def open_tree(source: str, recursive: bool = False, directory: int = _AT_FDCWD) -> int:
    """A detached copy of the mount at `source` ("" is `directory` itself), as a descriptor."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC
    flags |= _AT_RECURSIVE if recursive else 0
    flags |= _AT_EMPTY_PATH if not source else 0
    return libc.syscall(libc.SYS.open_tree, directory, os.fsencode(source), flags)


def move_mount(tree: int, target: int) -> None:
    """Attach the detached mount `tree` on top of what descriptor `target` refers to."""
    libc.syscall(libc.SYS.move_mount, tree, b"", target, b"", _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH)


def set_attributes(tree: int, set: int, clear: int = 0, propagation: int = 0, recursive: bool = False) -> None:
    """mount_setattr(2) on the mount that descriptor `tree` refers to."""
    attributes = _MountAttributes(set, clear, propagation, 0)
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    libc.syscall(libc.SYS.mount_setattr, tree, b"", flags, ctypes.byref(attributes), ctypes.sizeof(attributes))


def set_idmap(tree: int, userns: int, recursive: bool = False) -> None:
    """Show the files of the detached mount `tree` as owned by whom the user namespace behind descriptor `userns` maps their owners to."""
    attributes = _MountAttributes(_ATTR_IDMAP, 0, 0, userns)
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    libc.syscall(libc.SYS.mount_setattr, tree, b"", flags, ctypes.byref(attributes), ctypes.sizeof(attributes))


def detached_filesystem(fstype: str, options: dict[str, str], attributes: int = 0) -> int:
    """A new file system that is mounted nowhere yet, as a descriptor (fsopen, fsconfig, fsmount)."""
    context = libc.syscall(libc.SYS.fsopen, fstype.encode(), _FSOPEN_CLOEXEC)
    try:
        for key, value in options.items():
            command = _FSCONFIG_SET_STRING if value else _FSCONFIG_SET_FLAG
            libc.syscall(libc.SYS.fsconfig, context, command, key.encode(), os.fsencode(value) or None, 0)
        libc.syscall(libc.SYS.fsconfig, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        return libc.syscall(libc.SYS.fsmount, context, _FSMOUNT_CLOEXEC, attributes)
    finally:
        os.close(context)
