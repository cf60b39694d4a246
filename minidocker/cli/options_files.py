"""The part of the table in options.py that is about a container's files."""

from __future__ import annotations

from minidocker.cli.options import Command, Option

CP = Command(
    "cp",
    "Copy files into or out of a container, running or not",
    "copying",
    "copy",
    (
        Option("-a, --archive", "Keep owners and set-id bits"),
        Option("-L, --follow-link", "Copy what a link at SRC points to"),
    ),
    "CONTAINER:SRC DEST|- or SRC|- CONTAINER:DEST",
    least=2,
    most=2,
    complete="file",
    examples=(
        ("a file out of the container web", "minidocker cp web:/etc/nginx/nginx.conf ."),
        ("what is in a directory into it", "minidocker cp ./site/. web:/srv/site"),
        ("as a tar stream", "minidocker cp web:/var/log - | tar tv"),
    ),
)

DIFF = Command(
    "diff",
    "Show what a container has added (A), changed (C) and deleted (D)",
    "copying",
    "changes",
    (Option("--format FORMAT", "json", complete=("json",)),),
    "CONTAINER",
    least=1,
    most=1,
    examples=(("what was added", "minidocker diff web | grep ^A"),),
)
