# mypy: ignore-errors
"""What a command, its monitor and whatever those exec run under while faults are made: a profile function that sees each call which can
change something outside of the process, or fail, and lists it, ends the process before it, or has it fail. Nothing of it is in minidocker.

    point       ROLE NUMBER: the NUMBER-th call of the processes of that role
    roles       command, monitor (forked by it, until it execs), then what execs by its function: resident, finish_resident, serve
    orders      list FILE | kill ROLE NUMBER | fail ROLE NUMBER ERRNO

This file's text is the beginning of an interpreter's -c program, with TEXT, PATHS and ORDER defined before it.
"""

import os
import sys

from __main__ import ORDER, PATHS, TEXT

# Those that change something; a failure may besides come from any call of these modules but for what cannot fail, or what nobody can
# do anything about.
_NAMES = """
write writev pwrite unlink rename mkdir makedirs rmdir symlink link ftruncate fork open execve execv posix_spawn dup2 chmod fchmod
send sendto sendmsg sendall bind listen flock lockf execute pidfd_send_signal _exit _native"""
CHANGES = set(_NAMES.split())
FALLIBLE = {"posix", "fcntl", "_socket", "_io"}
_NAMES = """
getpid getppid fspath fsencode fsdecode umask close waitpid waitstatus_to_exitcode WIFSIGNALED WTERMSIG WEXITSTATUS _exit kill __exit__
get_inheritable set_inheritable isatty getuid geteuid getgid getegid uname strerror readlink set_blocking sysconf
inet_pton inet_ntop CMSG_SPACE CMSG_LEN htons ntohs"""
HARMLESS = set(_NAMES.split())
_kill, _getpid, _write = os.kill, os.getpid, os.write
_root = _getpid()
_role = "command"
_number = 0
_step = 0  # of the plans run so far, which the next call belongs to or comes after
_file = os.open(ORDER[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC) if ORDER[0] == "list" else -1


def _statement(frame):
    """The SQL of State.change and State.rows; "" elsewhere."""
    return str(frame.f_locals.get("statement", frame.f_locals.get("query", "")))


def _is_fallible(what):
    module = getattr(what, "__module__", None) or type(getattr(what, "__self__", None)).__module__
    return module in FALLIBLE and what.__name__ not in HARMLESS


def _look(frame, event, what):
    global _number, _step
    if event == "c_call":
        name = what.__name__
        changes, fallible = name in CHANGES, _is_fallible(what)
        if name == "execute":
            statement = _statement(frame)
            changes, fallible = not statement.startswith(("SELECT", "PRAGMA")), True
    elif event == "call":
        code = frame.f_code
        name = code.co_name
        if name == "become_child":
            sys.setprofile(None)  # the container's own first process
            return
        if name == "apply" and frame.f_back.f_code.co_filename.endswith("plan.py"):
            _step += 1
        if name != "_native":
            return
        frame = frame.f_back
        if frame.f_code.co_name == "bounding":  # it asks, 41 times
            return
        changes = fallible = True
    else:
        return
    filename = frame.f_code.co_filename
    if not (changes or fallible) or "/minidocker/" not in filename or filename.endswith(("__main__.py", "imports.py")):
        return
    _number += 1
    role = _role if _getpid() == _root or _role != "command" else "monitor"
    if ORDER[0] == "list":
        _note(role, name, changes, fallible, frame)
    elif ORDER[1:3] == [role, str(_number)]:
        if ORDER[0] == "kill":
            _kill(_getpid(), 9)
        raise _failure(name, ORDER[3])


def _note(role, name, changes, fallible, frame):
    sys.setprofile(None)
    writes = name == "execute" and changes
    trail = []
    while frame is not None and len(trail) < 5:
        trail.append(os.path.basename(frame.f_code.co_filename)[:-3] + "." + frame.f_code.co_name)
        frame = frame.f_back
    marks = "".join(mark if is_so else "-" for mark, is_so in (("W", writes), ("C", changes), ("F", fallible)))
    line = f"{role} {_number} {_step} {marks} {name} {' < '.join(trail)}\n"
    try:
        _write(_file, line.encode())
    except OSError:
        pass  # it has closed all that it does not know, as what is about to exec does
    sys.setprofile(_look)


def _failure(name, error):
    if name == "execute":
        failure = sys.modules["_sqlite3"].OperationalError("made to fail")
        failure.sqlite_errorname = error
        return failure
    number = getattr(sys.modules["errno"] if "errno" in sys.modules else __import__("errno"), error)
    return OSError(number, os.strerror(number))


class _Native:
    """A function of the C library whose call can be seen, and does not happen where it is to fail."""

    def __init__(self, function):
        object.__setattr__(self, "function", function)

    def __setattr__(self, name, value):
        setattr(self.function, name, value)

    def _native(self, *arguments):
        return self.function(*arguments)

    __call__ = _native


def _watch_library():
    from minidocker.kernel import foreign

    plain = foreign.CDLL.__getattr__

    def __getattr__(self, name):
        found = plain(self, name)
        setattr(self, name, _Native(found))
        return getattr(self, name)

    foreign.CDLL.__getattr__ = __getattr__


def _follow():
    """What is exec'd runs under this, too."""
    from minidocker.engine import interpreter

    plain = interpreter.command

    def command(*imports):
        *words, program = plain(*imports)
        return [*words, f"TEXT = {TEXT!r}; PATHS = {PATHS!r}; ORDER = {ORDER!r}\nexec(TEXT)\n_role = sys.argv[2]\n" + program]

    interpreter.command = command


sys.path[:0] = PATHS
_watch_library()
_follow()
sys.setprofile(_look)
