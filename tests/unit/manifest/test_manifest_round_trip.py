from __future__ import annotations

import jsonschema_rs
import pytest
from generated_apps import APPS
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from penstock.errors import InvalidSpec, SpecFault
from penstock.manifest import emit, parse, schema
from penstock.manifest.reader import read
from penstock.model.app import App, Batch, decode, encode
from penstock.model.app_changes import diff
from penstock.model.app_rules import faults

# An app is large: to minimise one would outlast the cap on a test's time.
QUICKLY_MADE = settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    deadline=None,
)
VALIDATOR = jsonschema_rs.Draft202012Validator(schema())


@QUICKLY_MADE
@given(APPS)
def test_an_emitted_app_is_read_as_the_same_app(app: App):
    text = emit(app)
    assert parse(text) == [app]
    assert decode(encode(app)) == app
    assert faults(app) == []


@QUICKLY_MADE
@given(APPS)
def test_the_schema_takes_every_emitted_app(app: App):
    (document,), _ = read(emit(app), "")
    assert [str(error) for error in VALIDATOR.iter_errors(document.value)] == []


@QUICKLY_MADE
@given(APPS, APPS)
def test_a_diff_is_empty_exactly_for_equal_apps(one: App, other: App):
    assert diff(one, one) == ()
    assert (diff(one, other) == ()) == (one == other)


def test_defaults_are_not_written():
    assert emit(App(name="digits", handler="digits:Digits", batch=Batch())) == (
        "apiVersion: penstock/v1\nkind: App\nmetadata:\n  name: digits\nspec:\n  handler: digits:Digits\n  batch: {}\n"
    )


@pytest.mark.parametrize(
    "text", ["", "yes", "1_000", "0o7", "1e3", "a: b", "#", " x ", "x\n", "\x85", "\u2028", "é", "🙂", "'\"\\"]
)
def test_text_is_written_so_that_it_stays_text(text: str):
    app = App(name="x", image="x", env={"TEXT": text}, args=(text,))
    assert parse(emit(app)) == [app]


FRAGMENTS = st.lists(
    st.sampled_from(
        [*"abc01-:?[]{},&*#!|>'\"%@`~ \n\t\\.<=", "\n  ", ": ", "- ", "---\n", "...\n", "&a ", "*a", "!!str ", "!<x> ", "<<: ", "name: ",
         "spec: ", "placement: ", "%YAML 1.1\n", "\\x", "\\U0011FFFF", "\\ud800", "\\0", "kind: App\n", "mode: vm\n", "\r", "\x00", "\ufeff"]
    ),
    max_size=40,
).map("".join)  # fmt: skip


def refusals(text: str) -> tuple[SpecFault, ...]:
    """The faults of a text; what else goes wrong in `parse` goes wrong in the test."""
    try:
        parse(text)
    except InvalidSpec as refused:
        return refused.faults or (SpecFault("refused without a fault"),)
    return ()


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60) | FRAGMENTS)
def test_any_text_is_read_or_refused_at_a_place_inside_of_it(text: str):
    lines = len(text.splitlines()) + 1
    for fault in refusals(text):
        assert 1 <= fault.line <= lines
        assert fault.column >= 1


@QUICKLY_MADE
@given(APPS, st.data())
def test_a_spoilt_document_is_read_or_refused(app: App, data: st.DataObject):
    text = emit(app)
    place = data.draw(st.integers(0, len(text)))
    spoilt = text[:place] + data.draw(FRAGMENTS) + text[place + data.draw(st.integers(0, 5)) :]
    assert all(fault.line for fault in refusals(spoilt))
