"""An OCI runtime-spec configuration (config.md, config-linux.md; 1.0 to 1.3), checked and made whole: pure, nothing is looked up or made.

    text ─► configuration(text, bundle) ─┬─ UsageError: JSON path, what was found, what is allowed
                                         └─ a copy that the runtime can index: nulls gone, defaults there, paths absolute

Each section has a room of its own: oci_process.py, oci_linux.py, oci_resources.py, oci_seccomp.py, all made of oci_shape.py's shapes.
"""

from __future__ import annotations

import posixpath

from minidocker.errors import UsageError
from minidocker.spec import fastjson, oci_linux, oci_process, oci_resources
from minidocker.spec.oci_shape import INT64, Place, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ROOT = Place()
VERSIONS = ("1.0", "1.1", "1.2", "1.3")
HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
_LONGEST_NAME = 64  # __NEW_UTS_LEN, sethostname(2)


def configuration(text: str | bytes, bundle: str) -> dict[str, Any]:
    """The configuration in `text`; `bundle` is the absolute directory that relative paths are relative to. Raises UsageError."""
    document = _ROOT.object(_decoded(text))
    _version(document.place.of("ociVersion"), document.given.get("ociVersion"))
    document.string("ociVersion")
    for key in ("windows", "solaris", "vm", "zos", "freebsd"):
        document.refuse(key, "this is a container for another platform", "minidocker runs Linux containers")
    document.take("root", lambda place, value: _root(place, value, bundle), required=True)
    document.take("process", oci_process.section, required=True)
    for key in ("hostname", "domainname"):
        document.take(key, _name)
    document.list("mounts", lambda place, value: _mount(place, value, bundle), default=[])
    document.take("hooks", _hooks, default={})
    document.take("annotations", _annotations, default={})
    document.take("linux", oci_linux.section, default=None)
    if "linux" not in document.taken:
        document.taken["linux"] = oci_linux.section(_ROOT.of("linux"), {})
    _agree(document.taken)
    return document.taken


def process(text: str | bytes) -> dict[str, Any]:
    """A `process` section by itself, as `exec --process FILE` has it. Raises UsageError."""
    return oci_process.section(Place("process"), _decoded(text))


def resources(text: str | bytes) -> dict[str, Any]:
    """A `linux.resources` section by itself, as `update --resources FILE` has it. Raises UsageError."""
    return oci_resources.section(Place("resources"), _decoded(text))


def _decoded(text: str | bytes) -> Any:
    try:
        return fastjson.loads(text if isinstance(text, str) else text.decode())
    except RecursionError:
        raise UsageError("config: nested too deeply") from None
    except ValueError as error:  # UnicodeDecodeError is one
        raise UsageError(f"config: not JSON: {error}") from None


def _version(place: Place, value: Any) -> None:
    if value is None:
        raise place.wrong("missing: it is required", "1.2.0")
    version = place.string(value)
    core = version.partition("-")[0].partition("+")[0].split(".")
    if len(core) != 3 or not all(part.isdecimal() and part.isascii() for part in core):
        raise place.wrong(f"{shown(version)} is not a version", "as in 1.2.0 (semver.org)")
    if ".".join(core[:2]) not in VERSIONS:
        raise place.wrong(f"{shown(version)} is not understood", "minidocker understands " + ", ".join(VERSIONS))


def _root(place: Place, value: Any, bundle: str) -> dict[str, Any]:
    root = place.object(value)
    path = root.string("path", required=True)
    if not path:
        raise place.of("path").wrong("empty: it is the directory of the root file system")
    root.taken["path"] = posixpath.normpath(posixpath.join(bundle, path))
    root.boolean("readonly", default=False)
    return root.taken


def _mount(place: Place, value: Any, bundle: str) -> dict[str, Any]:
    mount = place.object(value)
    # 1.0's runtimes took relative destinations as below /, and engines of that time wrote them
    destination = mount.string("destination", required=True)
    if not destination:
        raise place.of("destination").wrong("empty: it is an absolute path in the container")
    mount.taken["destination"] = destination if destination.startswith("/") else f"/{destination}"
    if not posixpath.normpath(destination).strip("/."):
        raise place.of("destination").wrong(f"{shown(destination)} is the root itself", "say what that is by root.path")
    mount.string("type")
    options = mount.strings("options", default=[])
    for key in ("uidMappings", "gidMappings"):
        mount.list(key, oci_linux.mapping)
    mapped = [key for key in ("uidMappings", "gidMappings") if mount.taken.get(key)]
    if len(mapped) == 1:
        raise place.of(mapped[0]).wrong("uidMappings and gidMappings go together")
    bound = mount.taken.get("type") == "bind" or "bind" in options or "rbind" in options
    source = mount.string("source", required=bound)
    if bound:
        if not source:
            raise place.of("source").wrong("empty: it is what is bound")
        mount.taken["source"] = posixpath.join(bundle, source)
    elif "type" not in mount.taken and "remount" not in options:
        raise place.of("type").wrong("missing: what is neither bind nor rbind has a file system type")
    return mount.taken


def _name(place: Place, value: Any) -> str:
    name = place.string(value)
    if len(name.encode()) > _LONGEST_NAME:
        raise place.wrong(f"{shown(name)} is longer than {_LONGEST_NAME} bytes")
    return name


def _hooks(place: Place, value: Any) -> dict[str, Any]:
    hooks = place.object(value)
    for kind in HOOKS:
        hooks.list(kind, _hook)
    return hooks.taken


def _hook(place: Place, value: Any) -> dict[str, Any]:
    hook = place.object(value)
    hook.path("path", required=True)
    hook.strings("args")
    for at, entry in place.of("env").array(hook.strings("env", default=[])):
        oci_process.variable(at, entry)
    hook.integer("timeout", (1, INT64[1]))
    return hook.taken


def _annotations(place: Place, value: Any) -> dict[str, str]:
    found = place.texts(value)
    if "" in found:
        raise place.wrong("a key is empty")
    return found


def _agree(document: dict[str, Any]) -> None:
    """What the sections demand of one another."""
    linux = document["linux"]
    own = {entry["type"] for entry in linux["namespaces"]}
    for key in ("hostname", "domainname"):
        if document.get(key) and "uts" not in own:
            raise _ROOT.of(key).wrong("it would be the host's: there is no uts namespace", 'add {"type": "uts"} to linux.namespaces')
    if "mount" not in own:
        raise _ROOT.of("linux").of("namespaces").wrong(
            "without a mount namespace the container's mounts would be the host's", 'add {"type": "mount"}'
        )
    for index, entry in enumerate(document["mounts"]):
        if not {"idmap", "ridmap"}.isdisjoint(entry["options"]) and not entry.get("uidMappings") and not linux.get("uidMappings"):
            raise _ROOT.of("mounts").at(index).of("options").wrong(
                "idmap without uidMappings means the container's own, which has none", "say uidMappings and gidMappings"
            )
    if not document["process"]["terminal"]:
        document["process"].pop("consoleSize", None)  # config.md: to be ignored without a terminal
