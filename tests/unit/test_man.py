"""Manual pages: every command and option in them, and nothing in them that roff stumbles over."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from minidocker import cli
from minidocker.cli import man, options, options_groups

Say = pytest.CaptureFixture[str]


def printed(capfd: Say, *words: str) -> str:
    assert cli.main(["man", *words]) == 0
    return capfd.readouterr().out


def test_every_command_has_a_page_with_every_option(capfd: Say) -> None:
    overview = printed(capfd)
    for words, command in options_groups.every():
        page = printed(capfd, *words.split())
        assert f"minidocker\\-{command.name.replace(' ', chr(92) + '-')} \\- {man.escaped(command.summary[:1].lower())}" in page, words
        for option in command.options:
            assert man.escaped(option.help.rstrip(".")) in page
            assert all(f"\\fB{man.escaped(name)}\\fP" in page for name in option.shown), option.key
        assert all(man.escaped(example) in page for _, example in command.examples)
        assert f"\\fB{man.escaped(command.name)}\\fP" in overview
    assert all(f"\\fB{man.escaped(name)}\\fP" in overview for option in options.GLOBAL for name in option.shown)


def test_pages_are_files_by_the_names_that_man_looks_for(tmp_path: Path, capfd: Say) -> None:
    assert printed(capfd, "-o", str(tmp_path / "man1")) == ""
    names = {path.name for path in (tmp_path / "man1").iterdir()}
    assert {"minidocker.1", "minidocker-run.1", "minidocker-network-create.1", "minidocker-container-prune.1"} <= names
    assert "minidocker-container-run.1" not in names  # it is `run`
    see_also = printed(capfd).partition(".SH SEE ALSO")[2]
    assert {line.split()[1].replace("\\-", "-") + ".1" for line in see_also.splitlines() if line} == names - {"minidocker.1"}


def test_a_page_that_there_is_not(capfd: Say, tmp_path: Path) -> None:
    assert cli.main(["man", "rum"]) == 1
    assert capfd.readouterr().err == "minidocker: no such command: rum\n  hint: did you mean rm or run?\n"
    (tmp_path / "file").touch()
    assert cli.main(["man", "-o", str(tmp_path / "file")]) == 125
    assert "file exists" in capfd.readouterr().err


@pytest.mark.parametrize("text", [".TH is no title", "'quoted'", "\\fB", "a-b `c` ~^", "-"])
@pytest.mark.skipif(not shutil.which("groff"), reason="groff is not installed")
def test_text_is_printed_as_it_stands(text: str) -> None:
    page = ".TH A 1\n.nh\n.SH NAME\n" + man.escaped(text) + "\n"
    done = subprocess.run(["groff", "-man", "-Tascii", "-P-c", "-ww"], input=page, capture_output=True, text=True)
    assert done.stderr == "" and f"\n       {text}\n" in done.stdout


@pytest.mark.skipif(not shutil.which("groff"), reason="groff is not installed")
def test_every_page_renders_without_a_warning(tmp_path: Path, capfd: Say) -> None:
    printed(capfd, "-o", str(tmp_path))
    for path in tmp_path.iterdir():
        done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-rLL=78n", str(path)], capture_output=True, text=True)
        assert done.stderr == "" and len(done.stdout) > 300, path
    if shutil.which("man"):
        done = subprocess.run(["man", "--warnings", "-l", str(tmp_path / "minidocker-run.1")], capture_output=True, text=True)
        assert (done.stderr, done.returncode) == ("", 0) and "run a command in a new container" in done.stdout
