"""What a monitor is between two runs of its container: a light interpreter that waits, and executes another. The lock stays its own.

Like all that a monitor loads while it has nothing to do, this imports nothing of weight.
"""

from __future__ import annotations

import _signal
import os
import time


def wait(arguments: list[str]) -> None:
    """Wait so many seconds (the first of `arguments`), then execute the command that follows.

    It ends on SIGTERM, as a monitor does not: there is no container whose end has to be written down, and the program of the next one
    is to begin with every signal as it should be."""
    _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)
    seconds, *command = arguments
    time.sleep(float(seconds))
    os.execv(command[0], command)
