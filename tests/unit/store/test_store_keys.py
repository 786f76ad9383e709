import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import Invalid
from penstock.store import keys

RUN = "0193b0c0-0000-7000-8000-000000000000"


def test_the_layout_is_the_published_one():
    home = keys.home("AppData/llama", "default")
    assert keys.request(home, "r1") == "AppData/llama/requests/r1"
    assert keys.request_of_run(home, "r1", RUN) == f"AppData/llama/requests/r1.{RUN}"
    assert keys.result(home, "r1") == "AppData/llama/results/r1.gz"
    assert keys.result_of_epoch(home, "r1", RUN, 3) == f"AppData/llama/results/r1.{RUN}.e3.gz"
    assert keys.batch_manifest(home, "b") == "AppData/llama/batch/b/manifest.json"
    assert keys.batch_input(home, "b", "x.jsonl") == "AppData/llama/batch/b/input/x.jsonl"
    output, errors = "AppData/llama/batch/b/output/x.jsonl", "AppData/llama/batch/b/errors/x.jsonl"
    assert keys.batch_output(home, "b", "x.jsonl", 42) == f"{output}.part-000000042.jsonl.gz"
    assert keys.batch_errors(home, "b", "x.jsonl", 42) == f"{errors}.part-000000042.jsonl.gz"
    attempt = (RUN, 2)
    assert keys.batch_output_of_epoch(home, "b", "x.jsonl", 0, attempt) == f"{output}.part-000000000.{RUN}.e2.jsonl.gz"
    assert keys.batch_errors_of_epoch(home, "b", "x.jsonl", 0, attempt) == f"{errors}.part-000000000.{RUN}.e2.jsonl.gz"
    assert keys.batch_status(home, "b", "x.jsonl") == "AppData/llama/batch/b/status/x.jsonl.json"
    assert keys.app_spec("llama") == "penstock/apps/llama/spec.yaml"
    assert keys.app_generation("llama", 7) == "penstock/apps/llama/generations/7.yaml"
    assert keys.app_status("llama") == "penstock/apps/llama/status.json"


def test_other_tenants_have_a_room_of_their_own():
    assert keys.home("AppData/llama", "acme") == "AppData/llama/tenants/acme"
    assert keys.home("my/prefix", "default") == "my/prefix"
    assert keys.result(keys.home("my/prefix", "acme"), "r") == "my/prefix/tenants/acme/results/r.gz"


def test_parts_sort_as_they_were_read_up_to_a_thousand_million():
    parts = [keys.batch_output("h", "b", "f", first) for first in (0, 9, 10, 999_999, 10_000_000, 999_999_999)]
    assert parts == sorted(parts)


@pytest.mark.parametrize(
    "key", ["a", "a/b", "AppData/x/requests/a", "ü/日本", "with space", "a..b", "~", "%2e%2e/x", "x" * 255]
)
def test_a_key_is_given_back(key):
    assert keys.checked(key) is key


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "../a",
        "a/../b",
        "a/./b",
        "a/..",
        ".hidden",
        "a/.penstock/b",
        "a\\b",
        "a\0",
        "a\nb",
        "a\x7f",
        "a\x85",
        "\udc80",
        "x" * 256,
        "é" * 128,
        "/".join("ab" for _ in range(400)),
    ],
)
def test_what_no_store_can_hold_is_refused(key):
    with pytest.raises(Invalid):
        keys.checked(key)


@given(st.text(max_size=40))
def test_a_checked_key_never_climbs(key):
    try:
        keys.checked(key)
    except Invalid:
        return
    assert all(segment and segment[0] != "." for segment in key.split("/"))
    assert "\0" not in key
    assert "\n" not in key


@pytest.mark.parametrize(
    "name",
    ["a", "data.jsonl", "My File (1).jsonl.gz", "été.jsonl", "日本語.zst", "console.txt", "com.txt", "com10", "-x"],
)
def test_a_safe_file_name_is_given_back(name):
    assert keys.safe_file_name(name) is name
    assert keys.checked(keys.batch_output_of_epoch("AppData/app", "b", name, 0, (RUN, 999_999)))


@pytest.mark.parametrize(
    "name",
    [
        *[
            "",
            ".",
            "..",
            "a/b",
            "/etc/passwd",
            "../x",
            "..\\x",
            "C:\\x",
            "c:x",
            "a\0b",
            "a\nb",
            "a\rb",
            "\x7f",
            "a\x85b",
        ],
        *[
            ".bashrc",
            "x.",
            "x ",
            " x",
            "CON",
            "con",
            "Con.txt",
            "nul",
            "NUL.tar.gz",
            "PRN",
            "aux.jsonl",
            "COM1",
            "com9.x",
        ],
        *["lpt1", "LPT9.jsonl", "com¹", "CONIN$", "nul .txt", "a*b", "a?b", 'a"b', "a<b", "a>b", "a|b", "a\u2028b"],
        *["x\u202egpj.exe", "zero\u200bwidth", "\udc80", "\ufffe", "x" * 151, "é" * 76],
    ],
)
def test_an_unsafe_file_name_is_refused(name):
    with pytest.raises(Invalid, match="file name"):
        keys.safe_file_name(name)


@given(st.text(max_size=60))
def test_a_safe_file_name_is_one_segment_of_a_key(name):
    try:
        keys.safe_file_name(name)
    except Invalid:
        return
    assert "/" not in name
    assert keys.checked(keys.batch_input("h", "b", name))


@given(st.text(max_size=150))
def test_the_longest_safe_name_leaves_room_for_its_parts(name):
    try:
        keys.safe_file_name(name)
    except Invalid:
        return
    keys.checked(keys.batch_errors_of_epoch("AppData/" + "a" * 40, "b" * 36, name, 999_999_999, (RUN, 999_999)))


def test_the_keys_of_the_control_store_can_be_read_back():
    assert keys.app_of_spec(keys.app_spec("llama")) == "llama"
    for other in (keys.app_status("llama"), keys.app_generation("llama", 1), "elsewhere/llama/spec.yaml", ""):
        assert keys.app_of_spec(other) is None
    assert keys.app_generation("llama", 12).startswith(keys.app_generations("llama"))
    assert keys.generation_of(keys.app_generation("llama", 12)) == 12
