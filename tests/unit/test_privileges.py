"""Which capabilities a container gets, and in which order its privileges are set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidocker.errors import UnsupportedError, UsageError
from minidocker.kernel import process as kernel
from minidocker.plan import CHILD, PARENT, PRIVILEGES, Step
from minidocker.runtime import privileges
from minidocker.spec.capabilities import DEFAULT, NAMES, check, granted, mask, names
from minidocker.spec.near import near

some = st.lists(st.sampled_from([*NAMES, "ALL"]), max_size=6)
RETURN = b"\x06\x00\x00\x00\x00\x00\xff\x7f"  # BPF: return SCMP_ACT_ALLOW


def test_default_is_dockers_without_net_raw() -> None:
    dockers = "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP SETUID SYS_CHROOT"
    assert granted([], [], False) == ["CAP_" + name for name in dockers.split() if name != "NET_RAW"]


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        (["NET_ADMIN"], [], {*DEFAULT, "CAP_NET_ADMIN"}),
        (["cap_net_admin"], ["Chown"], {*DEFAULT, "CAP_NET_ADMIN"} - {"CAP_CHOWN"}),
        ([], ["ALL"], set()),
        (["KILL"], ["all"], {"CAP_KILL"}),
        (["ALL"], ["SYS_ADMIN"], set(NAMES) - {"CAP_SYS_ADMIN"}),
        (["ALL"], ["ALL"], set(NAMES)),
        (["KILL"], ["KILL"], set(DEFAULT)),
        (["SYS_TIME"], ["SYS_TIME"], {*DEFAULT, "CAP_SYS_TIME"}),
    ],
)
def test_add_and_drop_mean_what_they_mean_to_docker(add: list[str], drop: list[str], expected: set[str]) -> None:
    assert set(granted(add, drop, False)) == expected


def test_privileged_is_everything_less_what_is_dropped() -> None:
    assert set(granted([], [], True)) == set(NAMES)
    assert set(granted([], ["SYS_ADMIN"], True)) == set(NAMES) - {"CAP_SYS_ADMIN"}
    assert granted(["KILL"], ["ALL"], True) == ["CAP_KILL"]


@given(some, some, st.booleans(), st.sets(st.sampled_from(NAMES)))
def test_never_more_than_is_available(add: list[str], drop: list[str], privileged: bool, available: set[str]) -> None:
    try:
        result = granted(add, drop, privileged, available)
    except UnsupportedError as error:
        missing = str(error).split("`")[1]
        assert missing in {name.removeprefix("CAP_") for name in add} and "CAP_" + missing not in available
        return
    assert set(result) <= available
    assert result == sorted(set(result))


@given(some, some, st.booleans())
def test_what_is_dropped_and_not_added_is_gone(add: list[str], drop: list[str], privileged: bool) -> None:
    assert not (set(drop) - set(add)) & set(granted(add, drop, privileged))


@given(some, some, st.booleans())
def test_what_is_added_by_name_and_not_dropped_is_there(add: list[str], drop: list[str], privileged: bool) -> None:
    assert (set(add) - {"ALL"} - set(drop)) <= set(granted(add, drop, privileged))


def test_a_capability_we_lack_is_refused_when_asked_for_by_name_only() -> None:
    available = set(NAMES) - {"CAP_SYS_RESOURCE", "CAP_MKNOD"}
    with pytest.raises(UnsupportedError, match="SYS_RESOURCE"):
        granted(["SYS_RESOURCE"], [], False, available)
    assert "CAP_SYS_RESOURCE" not in granted(["ALL"], [], False, available)
    assert "CAP_MKNOD" not in granted([], [], False, available)


@pytest.mark.parametrize(
    ("typo", "meant"), [("NET_ADMN", "NET_ADMIN"), ("sys_admn", "SYS_ADMIN"), ("CHWON", "CHOWN"), ("CAP_SYSLOGS", "SYSLOG")]
)
def test_unknown_capability_names_the_near_one(typo: str, meant: str) -> None:
    with pytest.raises(UsageError, match="unknown capability") as caught:
        granted([typo], [], False)
    assert f"`{meant}`" in caught.value.hint


def test_unknown_capability_without_a_near_one() -> None:
    with pytest.raises(UsageError) as caught:
        check("xyzzyxyzzyxyzzy")
    assert caught.value.hint == "see capabilities(7)"


@given(st.text(max_size=12))
def test_near_never_fails(word: str) -> None:
    assert len(near(word, NAMES)) <= 3


@given(st.sets(st.sampled_from(NAMES)))
def test_mask_and_names_are_inverse(chosen: set[str]) -> None:
    assert set(names(mask(chosen))) == chosen


def test_numbers_are_the_kernels() -> None:
    assert mask(["CAP_CHOWN"]) == 1
    assert mask(["CAP_SYS_ADMIN"]) == 1 << 21
    assert mask(["CAP_CHECKPOINT_RESTORE", "CAP_OF_THE_FUTURE"]) == 1 << 40


# --- the plan ----------------------------------------------------------------------------------------------------------------------

PROCESS = {
    "user": {"uid": 1000, "gid": 100, "additionalGids": [4, 27], "umask": 0o27},
    "capabilities": {"bounding": ["CAP_KILL", "CAP_CHOWN"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]},
    "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096}, {"type": "RLIMIT_CORE", "soft": 0, "hard": -1}],
    "oomScoreAdj": 500,
    "noNewPrivileges": True,
}


class Last(Step):
    actor = CHILD


def order(process: dict[str, object]) -> list[str]:
    return [type(step).__name__ for step in privileges.plan(process, (RETURN, 0), Last()).steps]


def test_filter_comes_last_with_no_new_privs_and_before_the_capabilities_go_without() -> None:
    assert order(PROCESS) == ["OomScore", "Limits", "Umask", "Credentials", "Last", "NoNewPrivileges", "Seccomp"]
    assert order({**PROCESS, "noNewPrivileges": False}) == ["OomScore", "Limits", "Umask", "Seccomp", "Credentials", "Last"]


def test_an_empty_process_drops_everything_and_does_no_more() -> None:
    steps = privileges.plan({}, None).steps
    assert [type(step).__name__ for step in steps] == ["Credentials"]
    assert steps[0].shell() == (
        "exec setpriv --reuid=0 --regid=0 --clear-groups --bounding-set=-all --inh-caps=-all --ambient-caps=-all"
        ' env -i bash -c "$PROGRAM"'
    )


def test_shell_says_what_setpriv_and_prlimit_would_be_told() -> None:
    plan = privileges.plan(PROCESS, (RETURN, 0))
    assert [step.shell() for step in plan.steps] == [
        'echo 500 > "/proc/$PID/oom_score_adj"',
        "prlimit --pid $$ --nofile=1024:4096 --core=0:unlimited",
        "umask 0027",
        "exec setpriv --reuid=1000 --regid=100 --groups=4,27 --bounding-set=-all,+chown,+kill"
        ' --inh-caps=-all,+kill --ambient-caps=-all,+kill --no-new-privs env -i bash -c "$PROGRAM"',
        "# no_new_privs: by setpriv, above",
        "# the seccomp filter, 1 BPF instructions, is left out: no stock tool loads one",
    ]
    assert all(step.title == PRIVILEGES and step.why for step in plan.steps)
    assert [step.actor for step in plan.steps] == [PARENT, *[CHILD] * 5]


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ({"type": "RLIMIT_FILES", "soft": 1, "hard": 1}, "unknown limit `RLIMIT_FILES`"),
        ({"type": "RLIMIT_CORE", "soft": -1, "hard": 1}, "soft .unlimited. is above hard .1."),
    ],
)
def test_wrong_limits_are_refused_before_anything_happens(limit: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        privileges.plan({"rlimits": [limit]}, None)


def test_a_filter_that_is_none_is_refused_in_the_constructor() -> None:
    for bpf in (b"", b"1234567", b"\0" * 8 * 0x10000):
        with pytest.raises(Exception, match="load a seccomp filter"):
            kernel.Filter(bpf)
