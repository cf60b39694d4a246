"""Plan: applied in order, undone in reverse, explained under titles."""

from __future__ import annotations

import subprocess

import pytest

from minidocker.errors import KernelError, MinidockerError, NotFoundError
from minidocker.plan import CHILD, At, Plan, Step, inline, quote, undo


class Effect(Step):
    title = "network"

    def __init__(self, name: str, log: list[str], fail: Exception | None = None, undo_fails: bool = False) -> None:
        self.name, self.log, self.fail, self.undo_fails = name, log, fail, undo_fails
        self.why = f"because {name}"

    def shell(self) -> str:
        return f"do {self.name}"

    def apply(self, at: At) -> None:
        if self.fail:
            raise self.fail
        self.log.append(f"+{self.name}")

    def undo(self, at: At) -> None:
        if self.undo_fails:
            raise OSError(16, "busy")
        self.log.append(f"-{self.name}")


def test_a_plan_is_applied_in_order() -> None:
    log: list[str] = []
    done = Plan([Effect("a", log), Effect("b", log)]).run(At())
    assert log == ["+a", "+b"]
    assert [step.shell() for step in done] == ["do a", "do b"]


def test_a_failure_undoes_what_was_done_in_reverse_and_names_cause_then_cleanup() -> None:
    log: list[str] = []
    plan = Plan([Effect("a", log), Effect("b", log, undo_fails=True), Effect("c", log), Effect("d", log, OSError(1, "x"))])
    with pytest.raises(KernelError) as raised:
        plan.run(At())
    assert log == ["+a", "+b", "+c", "-c", "-a"]
    assert str(raised.value) == "do d: operation not permitted; cleaning up then met: do b: device or resource busy"


def test_a_child_applies_its_own_slice_and_undoes_nothing() -> None:
    log: list[str] = []
    mine = Effect("mine", log)
    mine.actor = CHILD
    bad = Effect("bad", log, MinidockerError("no"))
    bad.actor = CHILD
    with pytest.raises(MinidockerError, match="^no$"):
        Plan([Effect("parents", log), mine, bad]).run(At(), CHILD)
    assert log == ["+mine"]


def test_explain_groups_by_title_and_gives_the_reason() -> None:
    log: list[str] = []
    other = Effect("c", log)
    other.title = "exec"
    text = Plan([Effect("a", log), Effect("b", log), other]).explain()
    assert text == (
        "# network\n  # because a\n  do a\n  # because b\n  do b\n\n# exec\n  # because c\n  do c\n"
    )


@pytest.mark.parametrize(
    ("word", "quoted"),
    [("a/b-c", "a/b-c"), ("", "''"), ("a b", "'a b'"), ("it's", "'it'\"'\"'s'"), ("$x", "'$x'"), ("é", "'é'")],
)
def test_quote(word: str, quoted: str) -> None:
    assert quote(word) == quoted


@pytest.mark.parametrize("text", ["plain", "a\tb\nc\n", "it's \\n not\n", "a 'b'\n$HOME `id` \"\n"])
def test_inline_is_one_line_and_the_same_to_bash(text: str) -> None:
    assert "\n" not in inline(text)
    assert subprocess.run(["bash", "-c", f"printf %s {inline(text)}"], capture_output=True, text=True).stdout == text


def test_a_plan_that_takes_away_does_not_stop() -> None:
    log: list[str] = []
    plan = Plan([Effect("a", log, OSError(16, "x")), Effect("b", log, NotFoundError("gone")), Effect("c", log)])
    assert plan.clear(At()) == ["do a: device or resource busy"]
    assert log == ["+c"]


def test_what_could_not_be_taken_away_is_tried_once_more() -> None:
    class Busy(Effect):
        def apply(self, at: At) -> None:
            self.once()
            super().apply(at)

        def undo(self, at: At) -> None:
            self.once()
            super().undo(at)

        def once(self) -> None:
            if self.name not in met:
                met.append(self.name)
                raise OSError(16, "busy")

    met: list[str] = []
    log: list[str] = []
    assert Plan([Busy("a", log), Effect("b", log)]).clear(At()) == []
    assert log == ["+b", "+a"]
    met.clear()
    assert undo([Effect("c", log), Busy("d", log)], At()) == []
    assert log == ["+b", "+a", "-c", "-d"]


def test_explain_knows_the_pid() -> None:
    step = Effect('"$PID" $PID', [])
    assert "do 7 7\n" in Plan([step]).explain(7) and 'do "$PID" $PID\n' in Plan([step]).explain()
