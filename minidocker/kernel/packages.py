"""What to type on this distribution for something that is missing (os-release(5)). Loaded when an error is being worded."""

from __future__ import annotations

# by the ID or ID_LIKE of os-release
_INSTALL = {
    "debian": "apt-get install", "ubuntu": "apt-get install", "fedora": "dnf install", "rhel": "dnf install", "centos": "dnf install",
    "alpine": "apk add", "arch": "pacman -S", "suse": "zypper install", "opensuse": "zypper install",
}  # fmt: skip
# what is missing -> its package by the command that installs it, "" for all others
_PACKAGES = {
    "nftables": {"": "nftables"},
    "libseccomp": {"": "libseccomp", "apt-get install": "libseccomp2", "zypper install": "libseccomp2"},
    "tini": {"": "tini"},
    "gcc": {"": "gcc", "apk add": "gcc musl-dev linux-headers"},
    "Python.h": {"": "python3-devel", "apt-get install": "python3-dev", "apk add": "python3-dev", "pacman -S": "python"},
    "sys/capability.h": {"": "libcap-devel", "apt-get install": "libcap-dev", "apk add": "libcap-dev", "pacman -S": "libcap"},
}
_RELEASES = ("/etc/os-release", "/usr/lib/os-release")


def install(*missing: str) -> str:
    """`apt-get install nftables`, or what this distribution has for it; where it is none that we know, Debian's names."""
    command = next((_INSTALL[name] for name in _names() if name in _INSTALL), "")
    names = [_PACKAGES[what].get(command or "apt-get install", _PACKAGES[what][""]) for what in missing]
    return f"{command} {' '.join(names)}" if command else f"install {' '.join(names)} (the names are Debian's)"


def _names() -> list[str]:
    """This distribution's name, then those of the ones that it is like, the nearest first."""
    for path in _RELEASES:
        try:
            with open(path, "rb", buffering=0) as file:
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            continue
        fields = {name: value.strip("\"'") for name, _, value in (line.partition("=") for line in lines)}
        return f"{fields.get('ID', '')} {fields.get('ID_LIKE', '')}".replace("opensuse-", "opensuse ").split()
    return []
