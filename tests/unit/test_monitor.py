"""The monitor's pump and log, the client's detach keys, and the log's reader."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minidocker.engine import logfile, logs, monitor
from minidocker.engine.client import KeySequence, raise_failure
from minidocker.engine.logfile import LOG_HEADER, Log
from minidocker.engine.logs import Reader, Stamper
from minidocker.engine.monitor import Left, Monitor, exit_code_of
from minidocker.errors import MinidockerError, TargetNotExecutable, TargetNotFound
from tests import pretend

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system of its own")
Record = tuple[int, int, bytes]


def written(log: Log) -> list[tuple[int, bytes]]:
    return [(stream, data) for _, stream, data in Reader(log.path).read()]


# --- the log --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(str(tmp_path / "log"))


def test_records_are_as_documented(log: Log) -> None:
    before = time.time_ns()
    log.write(1, b"out\n")
    log.write(2, b"\0\xff")
    content = Path(log.path).read_bytes()
    header = struct.calcsize(LOG_HEADER)
    time_ns, stream, length = struct.unpack_from(LOG_HEADER, content)
    assert (stream, length, content[header : header + length]) == (1, 4, b"out\n") and before <= time_ns <= time.time_ns()
    assert written(log) == [(1, b"out\n"), (2, b"\0\xff")]
    assert log.size == len(content)


def test_a_log_is_gone_on_with(log: Log) -> None:
    log.write(1, b"before")
    again = Log(log.path)
    assert again.size == log.size
    again.write(1, b"after")
    assert written(log) == [(1, b"before"), (1, b"after")]


@pytest.mark.parametrize("files", [1, 2, 5])
def test_no_more_files_and_bytes_are_kept_than_were_asked_for(tmp_path: Path, files: int) -> None:
    log = Log(str(tmp_path / "log"), 1000, files)
    for number in range(800):
        log.write(1, b"%d\n" % number)
    names = sorted(os.listdir(tmp_path))
    assert names == ["log", *(f"log.{number}" for number in range(1, files))]
    assert all(os.path.getsize(tmp_path / name) < 1000 + struct.calcsize(LOG_HEADER) + 8 for name in names)
    kept = [int(data) for _, data in written(log)]
    assert kept == list(range(kept[0], 800)) and len(kept) * 16 > 1000 * (files - 1), "the newest, without a gap"


def test_the_oldest_file_waits_for_its_reader(tmp_path: Path) -> None:
    """Written as fast as can be, read by one who has to keep up: nothing is missing, though what is kept is a hundredth of it."""
    log = Log(str(tmp_path / "log"), 2000, 2)
    reader, found = Reader(log.path), []
    log.write(1, b"0")
    found += reader.read()
    done = threading.Event()

    def follow() -> None:
        while not done.is_set():
            found.extend(reader.read())
        found.extend(reader.read())

    thread = threading.Thread(target=follow)
    thread.start()
    for number in range(1, 10_000):
        log.write(1, b"%d" % number)
    done.set()
    thread.join()
    assert [int(data) for _, _, data in found] == list(range(10_000))
    reader.close()


@pytest.mark.parametrize("files", [1, 2, 3])
def test_a_reader_that_stands_still_is_waited_for_once_and_told_what_it_missed(
    tmp_path: Path, files: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = []
    monkeypatch.setattr(logfile, "PATIENCE", 0.01)
    monkeypatch.setattr(logfile, "_is_free", lambda descriptor, ask=logfile._is_free: ask(descriptor) or waited.append(1))
    log = Log(str(tmp_path / "log"), 1024, files)
    log.write(1, b"x" * 1000)
    reader = Reader(log.path)
    assert len(list(reader.read())) == 1
    log.write(1, b"last of the first file")
    for number in range(20):
        log.write(1, b"%d" % number + b"x" * 1022)
        if number == files:
            before = len(waited)
    assert before and len(waited) == before, "its file has gone: nobody waits for it any longer"
    texts = [data for _, _, data in reader.read()]
    assert texts[:2] == [b"last of the first file", b"minidocker: output was rotated away here before it was read\n"]
    assert [int(text.rstrip(b"x")) for text in texts[2:]] == list(range(20 - files, 20))
    reader.close()


def test_a_rotation_that_was_cut_off_is_completed_by_the_next(tmp_path: Path) -> None:
    log = Log(str(tmp_path / "log"), 1000, 4)
    for number in range(4):
        log.write(1, b"%d" % number + b"x" * 1000)
    os.rename(tmp_path / "log.2", tmp_path / "log.3")
    os.rename(tmp_path / "log.1", tmp_path / "log.2")  # killed here
    again = Log(str(tmp_path / "log"), 1000, 4)
    assert [data[:1] for _, data in written(again)] == [b"1", b"2", b"3"]
    again.write(1, b"4")
    assert [data[:1] for _, data in written(again)] == [b"2", b"3", b"4"]


@needs_root
def test_a_full_disk_costs_output_and_says_how_much(tmp_path: Path) -> None:
    pretend.sh(f"mount -t tmpfs -o size=64k tmpfs {tmp_path}")
    try:
        log = Log(str(tmp_path / "log"))
        filler = tmp_path / "filler"
        log.write(1, b"before\n")
        filler.write_bytes(bytes(48 << 10))
        big = b"x" * 30000
        log.write(1, big)
        log.write(2, big)
        assert log.lost and big not in [data for _, data in written(log)]
        filler.unlink()
        log.write(1, b"after\n")
        first, *notes, last = written(log)
        assert (first, last, log.lost) == ((1, b"before\n"), (1, b"after\n"), 0), "no half of a record made the rest unreadable"
        said = b" bytes of output were lost here: the log could not be written\n"
        assert all(stream == 2 and note.startswith(b"minidocker: ") and note.endswith(said) for stream, note in notes)
        assert sum(int(note.split()[1]) for _, note in notes) == 60000
    finally:
        pretend.sh(f"umount -l {tmp_path}")


@needs_root
def test_the_log_outlives_a_disk_that_is_full_while_it_rotates(tmp_path: Path) -> None:
    pretend.sh(f"mount -t tmpfs -o size=64k,nr_inodes=3 tmpfs {tmp_path}")
    try:
        log = Log(str(tmp_path / "log"), 1000)
        filler = tmp_path / "filler"
        filler.touch()  # the last inode: the log cannot be opened anew
        log.write(1, b"a" * 1000)
        for _ in range(3):
            log.write(1, b"lost\n")
        filler.unlink()
        log.write(1, b"after\n")
        assert written(log)[0] == (1, b"a" * 1000)
        assert written(log)[-1] == (1, b"after\n")
        assert log.lost == 0
    finally:
        pretend.sh(f"umount -l {tmp_path}")


# --- the reader -----------------------------------------------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.sampled_from((1, 2)), st.binary(min_size=1, max_size=300)), max_size=30), st.integers(100, 2000), st.data())
def test_what_is_followed_is_whole_and_in_order(tmp_path_factory: pytest.TempPathFactory, outputs: list[tuple[int, bytes]], limit: int,
                                                data: st.DataObject) -> None:  # fmt: skip
    """Read now and then while it is written, over rotations: as long as no more than one rotation passes unread, nothing is missing."""
    log = Log(str(tmp_path_factory.mktemp("log") / "log"), limit)
    reader = Reader(log.path)
    found: list[tuple[int, bytes]] = []
    rotations = 0
    for stream, text in outputs:
        if (log.size >= limit and (rotations := rotations + 1) > 1) or data.draw(st.booleans()):
            found += [(record[1], record[2]) for record in reader.read()]
            rotations = 0
        log.write(stream, text)
    found += [(record[1], record[2]) for record in reader.read()]
    assert found == outputs
    os.close(log.descriptor)
    reader.close()


def test_half_a_record_is_waited_for(log: Log) -> None:
    record = struct.pack(LOG_HEADER, 1, 1, 5) + b"hello"
    reader = Reader(log.path)
    with open(log.path, "ab", buffering=0) as file:
        for at in range(len(record)):
            file.write(record[at : at + 1])
            assert list(reader.read()) == ([(1, 1, b"hello")] if at == len(record) - 1 else [])


def test_no_log_is_no_output(tmp_path: Path) -> None:
    reader = Reader(str(tmp_path / "log"))
    assert list(reader.read()) == []
    Log(str(tmp_path / "log")).write(1, b"late")
    assert [record[2] for record in reader.read()] == [b"late"]


TEXT = st.lists(st.sampled_from((b"a", b"bc", b"\n", b"\n\n")), min_size=1, max_size=6).map(b"".join)
RECORDS = st.lists(st.tuples(st.sampled_from((1, 2)), TEXT), max_size=12).map(
    lambda pairs: [(at * 1_000_000_000, stream, data) for at, (stream, data) in enumerate(pairs)]
)


@given(RECORDS, st.integers(0, 12))
def test_tail_is_the_last_lines(records: list[Record], tail: int) -> None:
    whole = b"".join(data for _, _, data in records)
    lines = whole.splitlines(keepends=True)
    assert b"".join(data for _, _, data in logs._last(iter(records), None, tail)) == b"".join(lines[len(lines) - min(tail, len(lines)) :])


@given(RECORDS, st.integers(0, 12), st.one_of(st.none(), st.integers(0, 12)))
def test_since_is_before_tail(records: list[Record], since: int, tail: int | None) -> None:
    found = list(logs._last(iter(records), float(since), tail))
    assert all(time_ns >= since * 1e9 for time_ns, _, _ in found)
    assert found == list(logs._last(iter(records[since:]), None, tail))


@given(RECORDS)
def test_each_line_of_a_stream_gets_one_stamp(records: list[Record]) -> None:
    out = {1: b"", 2: b""}

    def keep(stream: int, data: bytes) -> None:
        out[stream] += data

    stamper = Stamper(keep)
    for record in records:
        stamper.write(*record)
    for stream, text in out.items():
        plain = b"".join(data for _, of, data in records if of == stream)
        stamps, lines = [], []
        for line in text.splitlines(keepends=True):
            stamp, space, rest = line.partition(b" ")
            assert space and len(stamp) == len("2026-01-01T00:00:00.000000000Z") and stamp.endswith(b"Z")
            stamps.append(stamp)
            lines.append(rest)
        assert b"".join(lines) == plain
        assert len(lines) == len(plain.splitlines())
        assert stamps == sorted(stamps)


@given(st.integers(0, 1 << 62))
def test_times_as_rfc3339(time_ns: int) -> None:
    text = logs.rfc3339(time_ns)
    assert text.endswith(f".{time_ns % 1_000_000_000:09d}Z")
    assert text.startswith(time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time_ns // 1_000_000_000)))


# --- detach keys ----------------------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=4), st.lists(st.binary(max_size=5), max_size=8))
def test_keys_are_found_wherever_the_reads_split_them(keys: bytes, pieces: list[bytes]) -> None:
    sequence = KeySequence(keys)
    passed, left = b"", False
    for piece in pieces:
        more, left = sequence.feed(piece)
        passed += more
        if left:
            break
    typed = b"".join(pieces)
    at = typed.find(keys) if keys else -1
    if at >= 0:
        assert left and passed == typed[:at]
    else:
        assert not left and passed + sequence.held == typed
        assert not keys or (len(sequence.held) < len(keys) and keys.startswith(sequence.held))


@given(st.lists(st.sampled_from((b"\x10", b"\x11", b"a")), max_size=20))
def test_dockers_keys_typed_one_by_one(typed: list[bytes]) -> None:
    sequence = KeySequence(b"\x10\x11")
    left = any(sequence.feed(key)[1] for key in typed)
    assert left == (b"\x10\x11" in b"".join(typed))


# --- exit codes and failures ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 255))
def test_exit_codes(code: int) -> None:
    assert exit_code_of(code << 8) == code


@pytest.mark.parametrize("number", [1, 2, 9, 11, 15, 64])
def test_exit_codes_of_signals(number: int) -> None:
    assert exit_code_of(number) == exit_code_of(number | 0x80) == 128 + number


def test_the_end_is_noted(tmp_path: Path) -> None:
    before = time.time()
    monitor.note_end(str(tmp_path), 9)
    status, finished = (tmp_path / "exit").read_text().split()
    assert int(status) == 9 and before <= float(finished) <= time.time()


@pytest.mark.parametrize("error", [MinidockerError("verb object: cause", "try"), TargetNotFound("a"), TargetNotExecutable("ä\0", "")])
def test_a_failure_crosses_the_socket(error: MinidockerError) -> None:
    if "\0" in error.message:
        error.message = error.message.replace("\0", "")
    with pytest.raises(type(error)) as caught:
        raise_failure(monitor.failure_message(error)[1:])
    assert (caught.value.message, caught.value.hint, caught.value.exit_code) == (error.message, error.hint, error.exit_code)


# --- the pump -------------------------------------------------------------------------------------------------------------------------


class Run:
    """A child with pipes, a Monitor over it in a thread, and the client's end of its socket."""

    def __init__(self, log: Log, child: Callable[[], None], stdin: bool = False, client: bool = True) -> None:
        self.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        out, err, inp = os.pipe(), os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                for descriptor, standard in ((inp[0] if stdin else os.open("/dev/null", os.O_RDONLY), 0), (out[1], 1), (err[1], 2)):
                    os.dup2(descriptor, standard)
                os.closerange(3, 1000)
                child()
            finally:
                os._exit(70)
        for descriptor in (out[1], err[1], inp[0]):
            os.close(descriptor)
        theirs.setblocking(True)
        self.status: int | None = None
        self.left = False
        watching = Monitor(self.pid, os.pidfd_open(self.pid), {1: out[0], 2: err[0]}, inp[1] if stdin else -1, -1, log,
                           theirs if client else None)  # type: ignore[arg-type]  # fmt: skip
        if not client:
            theirs.close()
        self.monitor = watching
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        try:
            self.status = self.monitor.watch()
        except Left:
            self.left = not self.monitor.to_stdin
            self.status = self.monitor.watch()
        if self.monitor.client is not None:
            self.monitor.client.close()

    def messages(self) -> Iterator[tuple[bytes, bytes]]:
        while message := self.ours.recv(monitor.CHUNK * 2):
            yield message[:1], message[1:]

    def end(self) -> int:
        self.thread.join(30)
        assert self.status is not None, "the monitor did not end"
        return self.status


@pytest.fixture
def run(log: Log, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Run]]:
    # a monitor ignores SIGTERM; here it is a thread, which has no say in that (signal(2) by way of Python)
    monkeypatch.setattr(monitor, "_signal", SimpleNamespace(**{**vars(monitor._signal), "signal": lambda number, action: None}))
    runs: list[Run] = []

    def start(child: Callable[[], None], **options: bool) -> Run:
        runs.append(Run(log, child, **options))
        return runs[-1]

    yield start
    for one in runs:
        one.ours.close()
        if one.thread.is_alive():
            os.kill(one.pid, signal.SIGKILL)
            one.thread.join(10)


def write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def test_output_reaches_client_and_log_apart(run: Callable[..., Run], log: Log) -> None:
    def child() -> None:
        write_all(1, b"out")
        write_all(2, b"err")
        os._exit(3)

    one = run(child)
    assert sorted(one.messages()) == [(b"1", b"out"), (b"2", b"err")]
    assert exit_code_of(one.end()) == 3
    assert sorted(written(log)) == [(1, b"out"), (2, b"err")]


PATTERN = b"".join(b"%07d\n" % number for number in range(1 << 17))  # 1 MiB, more than all buffers on the way


def test_a_slow_client_loses_nothing_and_stops_the_child_not_the_monitor(run: Callable[..., Run], log: Log) -> None:
    def child() -> None:
        write_all(1, PATTERN)
        os._exit(0)

    one = run(child)
    deadline = time.monotonic() + 20
    previous = -1
    while (size := os.path.getsize(log.path)) != previous or not size:  # until it stands still
        assert time.monotonic() < deadline
        previous = size
        time.sleep(0.2)
    assert size < len(PATTERN), "the child waits for who reads it"
    assert os.waitid(os.P_PID, one.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    assert b"".join(data for kind, data in one.messages() if kind == b"1") == PATTERN
    assert one.end() == 0
    assert b"".join(data for _, data in written(log)) == PATTERN


def test_without_a_client_all_goes_to_the_log(run: Callable[..., Run], log: Log) -> None:
    def child() -> None:
        write_all(2, PATTERN)
        os._exit(0)

    assert run(child, client=False).end() == 0
    assert b"".join(data for _, data in written(log)) == PATTERN


def test_a_monitor_that_waits_for_a_slow_client_still_passes_signals(run: Callable[..., Run]) -> None:
    def child() -> None:
        while True:
            write_all(1, PATTERN)

    one = run(child)
    pretend_full = select.poll()
    pretend_full.register(one.ours, select.POLLIN)
    assert pretend_full.poll(10_000)
    one.ours.send(b"s" + bytes([signal.SIGTERM]))
    for _ in one.messages():
        pass
    assert exit_code_of(one.end()) == 128 + signal.SIGTERM


def test_input_goes_in_and_ends(run: Callable[..., Run]) -> None:
    def child() -> None:
        while data := os.read(0, 65536):
            write_all(1, data)
        os._exit(0)

    one = run(child, stdin=True)

    def feed() -> None:
        for at in range(0, len(PATTERN), 50_000):
            one.ours.send(b"i" + PATTERN[at : at + 50_000])
        one.ours.send(b"c")

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    assert b"".join(data for _, data in one.messages()) == PATTERN
    assert one.end() == 0
    feeder.join(10)


def test_input_that_nobody_reads_is_dropped(run: Callable[..., Run]) -> None:
    def child() -> None:
        os.close(0)
        write_all(1, b"closed")
        while True:
            signal.pause()

    one = run(child, stdin=True)
    messages = one.messages()
    assert next(messages) == (b"1", b"closed")
    for _ in range(4):
        one.ours.send(b"i" + bytes(monitor.CHUNK))
    one.ours.send(b"c")
    one.ours.send(b"s" + bytes([signal.SIGUSR1]))
    assert list(messages) == []
    assert exit_code_of(one.end()) == 128 + signal.SIGUSR1


def test_a_client_that_dies_takes_the_child_along(run: Callable[..., Run]) -> None:
    def child() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            signal.pause()

    one = run(child)
    one.ours.close()
    assert exit_code_of(one.end()) == 128 + signal.SIGKILL


def test_a_client_that_dies_with_output_waiting_takes_the_child_along(run: Callable[..., Run]) -> None:
    def child() -> None:
        while True:
            write_all(1, PATTERN)

    one = run(child)
    assert next(one.messages())[0] == b"1"
    one.ours.close()
    assert exit_code_of(one.end()) == 128 + signal.SIGKILL


def test_a_client_that_leaves_lets_it_live(run: Callable[..., Run], log: Log) -> None:
    def child() -> None:
        os.read(0, 1)
        write_all(1, b"still here")
        os._exit(0)

    one = run(child, stdin=True)
    one.ours.send(b"d")
    assert one.ours.recv(1) == b"", "the monitor has let go of it"
    stdin = one.monitor.stdin
    write_all(stdin, b"x")
    assert one.end() == 0
    assert one.left, "and has said so"
    assert written(log) == [(1, b"still here")]


def test_what_was_typed_before_leaving_arrives_first(run: Callable[..., Run], log: Log) -> None:
    def child() -> None:
        time.sleep(0.2)
        left = 4 * monitor.CHUNK  # more than the pipe holds
        while left and (data := os.read(0, left)):
            left -= len(data)
        os._exit(left)

    one = run(child, stdin=True)
    for _ in range(4):
        one.ours.send(b"i" + bytes(monitor.CHUNK))
    one.ours.send(b"d")
    assert one.end() == 0
    assert one.left


def test_closed_outputs_do_not_end_the_watch(run: Callable[..., Run]) -> None:
    def child() -> None:
        os.close(1)
        os.close(2)
        while True:
            signal.pause()

    one = run(child)
    time.sleep(0.05)
    assert one.thread.is_alive()
    one.ours.send(b"s" + bytes([signal.SIGINT]))
    assert list(one.messages()) == []
    assert exit_code_of(one.end()) == 128 + signal.SIGINT


def test_what_was_written_just_before_the_end_is_not_lost(run: Callable[..., Run], log: Log) -> None:
    for _ in range(20):
        one = run(lambda: (write_all(1, b"last words"), os._exit(0)))  # type: ignore[arg-type, return-value]
        assert list(one.messages()) == [(b"1", b"last words")]
        assert one.end() == 0
    assert written(log) == [(1, b"last words")] * 20
