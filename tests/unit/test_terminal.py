"""kernel/terminal.py: waiting for descriptors and for signals, neither of which is missed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from minidocker.kernel import terminal

PROGRAM = """
import os, signal, sys
from minidocker.kernel import terminal
got = []
terminal.catch_signals(lambda number, frame: got.append(number))
reader, writer = os.pipe()
os.kill(os.getpid(), signal.SIGUSR1)  # its handler has run by the next step: poll would be interrupted by nothing
assert got == [signal.SIGUSR1]
assert terminal.wait(reader) == set(), "a signal that came before is no reason to wait"
os.write(writer, b"x")
assert terminal.wait(reader) == {reader} == terminal.wait(reader), "the signal was told once"
assert terminal.wait(writing=(writer,)) == {writer}
print("done")
"""


def test_a_signal_just_before_ends_the_waiting() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_without_signals_to_catch_it_is_poll() -> None:
    reader, writer = os.pipe()
    try:
        os.close(writer)
        assert terminal.wait(reader) == {reader}
    finally:
        os.close(reader)
    assert signal.set_wakeup_fd(-1) == -1, "nothing was changed"
