"""The subset of Go's templates, and the clear refusal of the rest."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidocker.errors import UsageError
from minidocker.spec import template

DATA: dict[str, object] = {
    "Name": "web",
    "State": {"Pid": 7, "Running": True, "Error": None, "Load": 0.5},
    "Args": ["a", "b c"],
    "Networks": {"br0": {"IPAddress": "172.17.0.2"}},
    "Labels": {},
}


def render(text: str, data: object = DATA) -> str:
    return template.render(template.compile(text), data)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", ""),
        ("plain } }} text", "plain } }} text"),
        ("{{.Name}}", "web"),
        ("<{{ .Name }}> {{.State.Pid}}", "<web> 7"),
        ("{{.State.Running}} {{.State.Error}} {{.State.Load}}", "true <no value> 0.5"),
        ("{{.Networks.br0.IPAddress}}", "172.17.0.2"),
        ("{{.Args}} {{.State}}", "[a b c] map[Error:<no value> Load:0.5 Pid:7 Running:true]"),
        ("{{json .Args}}", '["a","b c"]'),
        ("{{.State | json}}", '{"Pid":7,"Running":true,"Error":null,"Load":0.5}'),
        ('{{index .Networks "br0"}} {{index .Networks "br0" "IPAddress"}}', "map[IPAddress:172.17.0.2] 172.17.0.2"),
        ('<{{index .Labels "a.b c"}}>', "<>"),
        ("{{range .Networks}}{{.IPAddress}} {{end}}{{.Name}}", "172.17.0.2 web"),
        ("{{range .Args}}<{{.}}>{{end}}{{range .Labels}}never{{end}}{{range .State.Error}}never{{end}}", "<a><b c>"),
        ("{{range .State}}{{json .}},{{end}}", "null,0.5,7,true,"),
        ("{{range .Networks}}{{range .}}{{.}}{{end}}{{end}}", "172.17.0.2"),
        ("{{.State|json}}", '{"Pid":7,"Running":true,"Error":null,"Load":0.5}'),
    ],
)
def test_rendered(text: str, wanted: str) -> None:
    assert render(text) == wanted


def test_the_whole_document_as_json() -> None:
    assert json.loads(render("{{json .}}")) == DATA


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{.Name", "--format `{{.Name`: {{ without }}"),
        ("{{}}", "--format: `{{}}` is not supported"),
        ("{{range .Args}}{{.}}", "--format: `{{range .Args}}` without {{end}}"),
        ("{{.Name}}{{end}}", "--format `{{.Name}}{{end}}`: {{end}} without {{range}}"),
        ("{{range .Name}}{{end}}", "--format: `{{range .Name}}`: it is neither a list nor a map"),
        ("{{range $k, $v := .Args}}{{end}}", "--format: `{{range $k, $v := .Args}}` is not supported"),
        ("{{if .Name}}", "--format: `{{if .Name}}` is not supported"),
        ("{{Name}}", "--format: `{{Name}}` is not supported"),
        ("{{..Name}}", "--format: `{{..Name}}` is not supported"),
        ("{{$x}}", "--format: `{{$x}}` is not supported"),
        ("{{index .Networks br0}}", "--format: `{{index .Networks br0}}` is not supported"),
        ('{{index .Networks "br0}}', '--format: `{{index .Networks "br0}}` is not supported'),
        ("{{.Nme}}", "--format: `.Nme`: no field `Nme` in `.`"),
        ("{{.State.X}}", "--format: `.State.X`: no field `X` in `.State`"),
        ("{{.Name.X}}", "--format: `.Name.X`: `.Name` has no fields"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        render(text)
    assert caught.value.message == message


def test_a_missing_field_lists_those_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        render("{{.State.X}}")
    assert caught.value.hint == "there are: Error, Load, Pid, Running"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("{{.State.Pdi}}", ".State.Pid"),  # a letter or two
        ("{{.state.pid}}", ".State"),  # its case
        ("{{.Pid}}", ".State.Pid"),  # somewhere else
        ("{{.State.running}}", ".State.Running"),
    ],
)
def test_a_missing_field_names_the_nearest(text: str, meant: str) -> None:
    with pytest.raises(UsageError) as caught:
        render(text)
    assert caught.value.hint.startswith(f"did you mean `{meant}`? there are: ")


pieces = st.sampled_from(["{{", "}}", "{{.", ".Name", ".State", " json ", "|", " ", ".", "range", "x", '"', "$", "(", "{", "}", "\\", "\n"])
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.sampled_from(["Name", "State", "x"]), inner)),
    max_leaves=6,
)


@given(st.one_of(st.text(), st.lists(pieces).map("".join)), values)
def test_anything_is_text_or_a_usage_error(text: str, value: object) -> None:
    try:
        assert isinstance(render(text, value), str)
    except UsageError as error:
        assert error.message
