"""--security-opt seccomp=FILE: docker's profile format, and OCI's, to OCI `linux.seccomp`. The cold path: it imports json.

Docker's is OCI's with conditions that the engine decides: `archMap` (the native architecture and what goes with it), and on each rule
`includes` and `excludes` by capability, architecture and kernel version; a rule may have `name` instead of `names`.
"""

from __future__ import annotations

import json
import os

from minidocker.errors import UnsupportedError, UsageError
from minidocker.spec.near import near
from minidocker.spec.seccomp import ACTIONS, ARCHITECTURES, MACHINES, OPERATORS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

_PROFILE = (
    "defaultAction", "defaultErrnoRet", "architectures", "archMap", "flags", "listenerPath", "listenerMetadata", "syscalls",
    "comment", "$schema",
)  # fmt: skip
_RULE = ("name", "names", "action", "errnoRet", "args", "comment", "includes", "excludes")
_ARGUMENT = ("index", "value", "valueTwo", "op")
_CONDITION = ("caps", "arches", "minKernel")
_FLAGS = tuple("SECCOMP_FILTER_FLAG_" + flag for flag in ("TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV"))
_MAX_ERRNO = 4095
_LARGEST = 4 << 20

# uname -m -> Go's name, which is what docker's profiles say
_GO = {"x86_64": "amd64", "i686": "386", "aarch64": "arm64", "armv7l": "arm"}


def load(path: str, capabilities: Collection[str]) -> dict[str, Any]:
    """The profile in the file `path`, for a container with `capabilities` on this machine and kernel. Raises UsageError."""
    try:
        with open(path, "rb") as file:
            text = file.read(_LARGEST + 1)
    except OSError as error:
        raise UsageError(f"read seccomp profile `{path}`: {os.strerror(error.errno or 0).lower()}") from None
    if len(text) > _LARGEST:
        raise UsageError(f"seccomp profile `{path}`: larger than {_LARGEST >> 20} MiB")
    system = os.uname()
    major, minor = system.release.split("-")[0].split(".")[:2]
    return parse(text, path, capabilities, system.machine, (int(major), int(minor)))


def parse(text: str | bytes, file: str, capabilities: Collection[str], arch: str, kernel: tuple[int, int]) -> dict[str, Any]:
    """A profile as OCI `linux.seccomp`, for a container with `capabilities` (OCI names) on `arch` (uname -m) and `kernel`.

    Raises UsageError that names `file` and the place in it (`syscalls[3].args[0].op`).
    """
    try:
        profile = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"seccomp profile `{file}`: not JSON: {error}") from None
    return _Reader(file, capabilities, arch, kernel).profile(profile)


class _Reader:
    def __init__(self, file: str, capabilities: Collection[str], arch: str, kernel: tuple[int, int]) -> None:
        self.file = file
        self.capabilities = capabilities
        self.arch = arch
        self.kernel = kernel

    def wrong(self, where: str, what: str, hint: str = "") -> UsageError:
        return UsageError(f"seccomp profile `{self.file}`: {where + ': ' if where else ''}{what}", hint)

    def profile(self, value: Any) -> dict[str, Any]:
        profile = self.object(value, "", _PROFILE)
        if "defaultAction" not in profile:
            raise self.wrong("defaultAction", "missing", 'the file is no seccomp profile, or lacks "defaultAction": "SCMP_ACT_ERRNO"')
        for key in ("listenerPath", "listenerMetadata"):
            if profile.get(key):
                raise UnsupportedError(f"seccomp profile `{self.file}`: {key}: minidocker has no seccomp listener")
        result: dict[str, Any] = {"defaultAction": self.action(profile["defaultAction"], "defaultAction")}
        if profile.get("defaultErrnoRet") is not None:
            result["defaultErrnoRet"] = self.number(profile["defaultErrnoRet"], "defaultErrnoRet", _MAX_ERRNO)
        result["architectures"] = self.architectures(profile)
        if profile.get("flags") is not None:
            result["flags"] = [
                self.word(flag, f"flags[{i}]", _FLAGS, "flag") for i, flag in enumerate(self.array(profile["flags"], "flags"))
            ]
        result["syscalls"] = []
        for i, rule in enumerate(self.array(profile.get("syscalls"), "syscalls")):
            read = self.rule(rule, f"syscalls[{i}]")
            if read:
                result["syscalls"].append(read)
        return result

    def architectures(self, profile: dict[str, Any]) -> list[str]:
        listed = self.array(profile.get("architectures"), "architectures")
        mapped = self.array(profile.get("archMap"), "archMap")
        if listed and mapped:
            raise self.wrong("archMap", "goes not together with architectures: one of them says which architectures are meant")
        result = [self.word(name, f"architectures[{i}]", ARCHITECTURES, "architecture") for i, name in enumerate(listed)]
        native = MACHINES.get(self.arch, ("",))[0]
        for i, value in enumerate(mapped):
            where = f"archMap[{i}]"
            entry = self.object(value, where, ("architecture", "subArchitectures"))
            name = self.word(entry.get("architecture"), f"{where}.architecture", ARCHITECTURES, "architecture")
            others = [
                self.word(other, f"{where}.subArchitectures[{j}]", ARCHITECTURES, "architecture")
                for j, other in enumerate(self.array(entry.get("subArchitectures"), f"{where}.subArchitectures"))
            ]
            if name == native:
                result = [name, *others]
        return result

    def rule(self, value: Any, where: str) -> dict[str, Any] | None:
        """The rule without its conditions, or None when they do not hold here."""
        rule = self.object(value, where, _RULE)
        result: dict[str, Any] = {"names": self.names(rule, where), "action": self.action(rule.get("action"), f"{where}.action")}
        if rule.get("errnoRet") is not None:
            result["errnoRet"] = self.number(rule["errnoRet"], f"{where}.errnoRet", _MAX_ERRNO)
        args = self.array(rule.get("args"), f"{where}.args")
        if args:
            result["args"] = [self.argument(arg, f"{where}.args[{i}]") for i, arg in enumerate(args)]
        wanted = self.condition(rule.get("includes"), f"{where}.includes")
        unwanted = self.condition(rule.get("excludes"), f"{where}.excludes")
        holds = all(held for held in wanted) and not any(held for held in unwanted)
        return result if holds else None

    def names(self, rule: dict[str, Any], where: str) -> list[str]:
        if rule.get("name") and rule.get("names"):
            raise self.wrong(f"{where}.name", "goes not together with names")
        names = [rule["name"]] if rule.get("name") else self.array(rule.get("names"), f"{where}.names")
        if not names:
            raise self.wrong(f"{where}.names", "missing or empty")
        for i, name in enumerate(names):
            if not isinstance(name, str) or not name or not all(c.isascii() and (c.isalnum() or c == "_") for c in name):
                raise self.wrong(f"{where}.names[{i}]", f"{json.dumps(name)} is no system call's name")
        return names

    def argument(self, value: Any, where: str) -> dict[str, Any]:
        arg = self.object(value, where, _ARGUMENT)
        most = (1 << 64) - 1
        return {
            "index": self.number(arg.get("index"), f"{where}.index", 5),
            "value": self.number(arg.get("value"), f"{where}.value", most),
            "valueTwo": self.number(arg.get("valueTwo") or 0, f"{where}.valueTwo", most),
            "op": self.word(arg.get("op"), f"{where}.op", OPERATORS, "operator"),
        }

    def condition(self, value: Any, where: str) -> list[bool]:
        """Which of the things said hold here: all capabilities, one of the architectures, a kernel at least so old."""
        said = self.object(value or {}, where, _CONDITION)
        result = []
        for i, name in enumerate(self.array(said.get("caps"), f"{where}.caps")):
            if not isinstance(name, str):
                raise self.wrong(f"{where}.caps[{i}]", "not a string")
            result.append(name in self.capabilities)
        arches = self.array(said.get("arches"), f"{where}.arches")
        if arches:
            result.append(_GO.get(self.arch, self.arch) in arches)
        if said.get("minKernel"):
            result.append(self.kernel >= self.version(said["minKernel"], f"{where}.minKernel"))
        return result

    def version(self, value: Any, where: str) -> tuple[int, int]:
        parts = value.split(".") if isinstance(value, str) else []
        if len(parts) < 2 or not all(part.isascii() and part.isdigit() for part in parts[:2]):
            raise self.wrong(where, f"{json.dumps(value)} is no kernel version", 'as in "4.8"')
        return int(parts[0]), int(parts[1])

    def action(self, value: Any, where: str) -> str:
        action = self.word(value, where, ACTIONS, "action")
        if action == "SCMP_ACT_NOTIFY":
            raise UnsupportedError(f"seccomp profile `{self.file}`: {where}: SCMP_ACT_NOTIFY needs a listener: minidocker has none")
        return action

    def word(self, value: Any, where: str, allowed: Collection[str], kind: str) -> str:
        if value is None:
            raise self.wrong(where, "missing")
        if not isinstance(value, str) or value not in allowed:
            close = near(str(value), allowed, edits=3)
            hint = "did you mean " + " or ".join(f"`{word}`" for word in close) + "?" if close else "one of " + ", ".join(allowed)
            raise self.wrong(where, f"unknown {kind} {json.dumps(value)}", hint)
        return value

    def number(self, value: Any, where: str, most: int) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
            raise self.wrong(where, "missing" if value is None else f"{json.dumps(value)} is not a whole number from 0 to {most}")
        return value

    def array(self, value: Any, where: str) -> list[Any]:
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(where, "not an array")
        return value

    def object(self, value: Any, where: str, keys: Collection[str]) -> dict[str, Any]:
        """A JSON object with known keys only: a misspelt one would be a restriction that is silently not there."""
        if not isinstance(value, dict):
            raise self.wrong(where, "not an object")
        for key in value:
            if key not in keys:
                close = near(key, keys, edits=3)
                place = f"{where}.{key}" if where else key
                raise self.wrong(place, "unknown key", f"did you mean `{close[0]}`?" if close else "one of " + ", ".join(keys))
        return value
