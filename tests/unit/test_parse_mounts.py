"""spec/parse_mounts.py: `--mount`, `-v NAME:DST` and `-v DST`; names that mean no other directory."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidocker.errors import UsageError
from minidocker.spec import parse_mounts

RW, RO = ["rbind", "rprivate"], ["rbind", "rprivate", "rro"]


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("data:/d", ("volume", "data", "/d", RW, True)), ("data:/d/../e:ro", ("volume", "data", "/e", RO, True)),
        ("data:/d:rw", ("volume", "data", "/d", RW, True)), ("a.b-c_d:/d:ro,nocopy", ("volume", "a.b-c_d", "/d", RO, False)),
        ("/d", ("volume", "", "/d", RW, True)), ("/d//e/", ("volume", "", "/d/e", RW, True)),
    ],
)  # fmt: skip
def test_v_with_a_volume(text: str, made: parse_mounts.Mount) -> None:
    assert parse_mounts.volume(text) == made


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("src=data,dst=/d", ("volume", "data", "/d", RW, True)), ("type=volume,dst=/d", ("volume", "", "/d", RW, True)),
        ("source=data,target=/d,readonly,volume-nocopy", ("volume", "data", "/d", RO, False)),
        ("type=bind,source=/a/../b,destination=/d", ("bind", "/b", "/d", RW, False)),
        ("type=bind,src=sub,dst=/d,ro=true", ("bind", "/here/sub", "/d", RO, False)),
        ("type=bind,src=/a,dst=/d,ro=0,bind-propagation=rslave", ("bind", "/a", "/d", ["rbind", "rslave"], False)),
        ("type=bind,src=/a,dst=/d,ro,bind-nonrecursive", ("bind", "/a", "/d", ["bind", "rprivate", "ro"], False)),
        ('type=bind,"src=/a,b ""c""",dst=/d', ("bind", '/a,b "c"', "/d", RW, False)),
        ("type=tmpfs,dst=/d", ("tmpfs", "", "/d", ["mode=1777"], False)),
        ("TYPE=tmpfs,dst=/d,tmpfs-size=1m,tmpfs-mode=0700,ro", ("tmpfs", "", "/d", ["ro", "size=1048576", "mode=700"], False)),
    ],
)  # fmt: skip
def test_mount(text: str, made: parse_mounts.Mount) -> None:
    assert parse_mounts.mount(text, "/here") == made


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "unknown key ``"), ("type=bind", "the target is missing"), ("type=nfs,dst=/d", "bind, volume or tmpfs is allowed"),
        ("type=bind,dst=/d", "needs a source"), ("type=bind,src=/a,dst=d", "must be an absolute path below /"),
        ("type=bind,src=/a,dst=/", "must be an absolute path below /"), ("src=../x,dst=/d", "a volume's name has letters"),
        ("type=tmpfs,src=/a,dst=/d", "`source` is nothing for a mount of type tmpfs"),
        ("type=bind,src=/a,dst=/d,tmpfs-size=1m", "`tmpfs-size` is nothing for a mount of type bind"),
        ("src=a,dst=/d,bind-propagation=rslave", "`bind-propagation` is nothing for a mount of type volume"),
        ("type=bind,src=/a,dst=/d,bind-propagation=sideways", "rslave is allowed"), ("src=a,dst=/d,dst=/e", "`target` is given twice"),
        ("src=a,dst=/d,ro=maybe", "true or false is allowed"), ("src,dst=/d", "must be KEY=VALUE"),
        ("dst=/d,flavour=x", "unknown key `flavour`"),
        ("type=tmpfs,dst=/d,tmpfs-mode=9", "an octal mode"), ("type=tmpfs,dst=/d,tmpfs-size=much", "not a size"),
        ('type=bind,"src=/a,dst=/d', "a quotation mark is not closed"), ('"src=a"b,dst=/d', "ends in the middle"),
    ],
)  # fmt: skip
def test_mount_refuses(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_mounts.mount(text, "/here")
    assert said in caught.value.message


@pytest.mark.parametrize("text", [
    "", ":/d", "data:", "data:d", "data:/", "/", "data:/d:ro:rw", "data:/d:z", "data:/d:ro,rw", ".x", "../x:/d", "d",
])  # fmt: skip
def test_v_refuses(text: str) -> None:
    with pytest.raises(UsageError, match="--volume"):
        parse_mounts.volume(text)


@given(st.text(max_size=40) | st.sampled_from(["..", ".", "a/b", "/", "a\0b", "-f", "a" * 300, "ä", "..a"]))
def test_a_name_is_one_directory_of_that_name_or_refused(text: str) -> None:
    try:
        name = parse_mounts.volume_name("volume", text)
    except UsageError:
        return
    assert name == text == os.path.basename(os.path.normpath(f"/volumes/{text}"))
    assert os.path.dirname(os.path.normpath(f"/volumes/{text}")) == "/volumes" and len(os.fsencode(name)) <= 255


words = st.sampled_from(["type=bind", "src=/a", "dst=/d", '"', ",", "=", "ro", "tmpfs-mode=1"])


@given(st.text(max_size=60) | st.lists(words).map(",".join))
def test_any_text_is_a_mount_below_the_root_or_refused(text: str) -> None:
    for parse in (lambda: parse_mounts.mount(text, "/here"), lambda: parse_mounts.volume(text)):
        try:
            kind, source, target, _, _ = parse()
        except UsageError:
            continue
        assert target.startswith("/") and len(target) > 1 and ".." not in target.split("/")
        assert source.startswith("/") if kind == "bind" else "/" not in source


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8), min_size=1, max_size=5))
def test_quoted_fields_come_back_as_they_were(fields: list[str]) -> None:
    written = ",".join('"' + field.replace('"', '""') + '"' for field in fields)
    assert parse_mounts._fields(written) == fields


def test_filters() -> None:
    assert parse_mounts.label_filter("label=a=b") == ("label", "a=b")
    for text in ("label", "label=", "size=1", "dangling=perhaps"):
        with pytest.raises(UsageError, match="--filter"):
            parse_mounts.label_filter(text)
