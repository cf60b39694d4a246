"""Asks a DNS server for addresses by UDP and prints in JSON how that went; run in a container's network namespace, without site.

    asker.py SERVER COUNT WINDOW NAME...      COUNT questions, WINDOW of them on their way at any time
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time

_TIMEOUT = 2.0


def question(number: int, name: str) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", number & 0xFFFF, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", 1, 1)


def ask(server: str, count: int, window: int, names: list[str]) -> dict[str, object]:
    """`took` seconds in all; `latencies` in ms of each question; `wrong` how many answers have no address, or did not come."""
    asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asking.settimeout(_TIMEOUT)
    asking.connect((server, 53))
    sent: dict[int, float] = {}
    latencies: list[float] = []
    wrong = at = 0
    begin = time.perf_counter()
    while len(latencies) + wrong < count:
        while at < count and len(sent) < window:
            packet = question(at, names[at % len(names)])
            sent[at & 0xFFFF] = time.perf_counter()
            asking.send(packet)
            at += 1
        try:
            answer = asking.recv(4096)
        except OSError:  # nobody answers, or nobody is there
            wrong += len(sent)
            sent.clear()
            if not latencies:
                break
            continue
        end = time.perf_counter()
        number, flags, _, answers, _, _ = struct.unpack_from("!6H", answer)
        before = sent.pop(number, None)
        if before is None:
            continue
        if flags & 0xF or not answers:
            wrong += 1
        else:
            latencies.append(1000 * (end - before))
    return {"took": time.perf_counter() - begin, "latencies": latencies, "wrong": wrong}


if __name__ == "__main__":
    print(json.dumps(ask(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])))
