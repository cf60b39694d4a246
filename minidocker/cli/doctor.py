"""`doctor`, `network doctor` and `system check`: what is wrong, why it matters, and what mends it."""

from __future__ import annotations

from minidocker.cli import output
from minidocker.errors import MinidockerError
from minidocker.spec import parse, template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minidocker.cli.call import Call
    from minidocker.network.causes import Finding

_MARKS = {"good": "✓", "off": "-", "bad": "✗"}


def networks(call: Call) -> int:
    """`network doctor`: each finding with its reason and what mends it; 1 where there is any (left, with --fix), as grep."""
    as_json = _json(call)
    host = call.host()
    from minidocker.engine import doctor

    reference = call.arguments[0] if call.arguments else None
    return _tell(as_json, lambda: doctor.examine(host, reference), call.flag("fix"))


def state(call: Call) -> int:
    """`system check`: the same of state.db and of what is left over, with --repair."""
    as_json = _json(call)
    host = call.host()
    from minidocker.engine import check

    return _tell(as_json, lambda: check.examine(host), call.flag("repair"))


def _tell(as_json: bool, examine: Callable[[], list[Finding]], mend: bool) -> int:
    """What `examine` finds, after it was mended where it is to be; the exit code."""
    from minidocker.engine import doctor

    findings = examine()
    mended: list[Finding] = []
    if mend and any(finding.fix for finding in findings):
        troubles = doctor.fix(findings)
        left = examine()
        still = {(finding.network, finding.found) for finding in left}
        mended = [finding for finding in findings if (finding.network, finding.found) not in still]
        findings = left
        for trouble in troubles:
            output.report(MinidockerError(trouble))
    if as_json:
        keys = ("network", "cause", "found", "why", "mend")
        output.say(template.to_json([{key: getattr(finding, key) for key in keys} for finding in findings], indent=4))
        return 1 if findings else 0
    for finding in mended:
        output.say(f"mended: {_named(finding)}")
    for finding in findings:
        output.say(f"{_named(finding)}\n  why:  {finding.why}\n  mend: {finding.mend}")
    if not findings:
        output.say("nothing is wrong" if not mended else "nothing else is wrong")
    return 1 if findings else 0


def host(call: Call) -> int:
    """`doctor`: every check; 1 where one without which nothing runs has failed."""
    as_json = _json(call)
    host = call.host()
    from minidocker.engine import health

    checks = health.examine(host)
    if as_json:
        keys = ("name", "state", "found", "why", "mend")
        output.say(template.to_json([{key: getattr(check, key) for key in keys} for check in checks], indent=4))
    else:
        for check in checks:
            output.say(f"{_MARKS[check.state]} {check.name}: {check.found}")
            for word, text in (("why: ", check.why), ("mend:", check.mend)):
                if text:
                    output.say(f"    {word} {text}")
    return 1 if any(check.state == health.BAD for check in checks) else 0


def _named(finding: Finding) -> str:
    return f"network `{finding.network}`: {finding.found}" if finding.network else finding.found


def _json(call: Call) -> bool:
    format = call.text("format")
    if format is not None:
        parse.choice("--format", format, ("json",))
    return format is not None
