"""Specs read from files, folders and standard input, and told about as compilers do."""

import json
from pathlib import Path

import pytest

GOOD = "name: {name}\nhandler: model.py:Model\n"


@pytest.fixture
def folder(tmp_path):
    """Give a folder with two good specs, one of them deeper, and something that is none."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.yaml").write_text(GOOD.format(name="a"))
    (tmp_path / "deep" / "b.yml").write_text(GOOD.format(name="b"))
    (tmp_path / "notes.txt").write_text("not: [a spec")
    return tmp_path


def applied(penstock):
    return [args[0] for path, args, _ in penstock.client.calls if path == "apps.apply"]


@pytest.fixture
def accepting(penstock):
    """Give the program before a server that takes every app."""
    from penstock.model.documents import AppliedDocument

    penstock.answers["apps.apply"] = lambda app, dry_run: AppliedDocument(
        name=app.name, generation=1, etag="e", created=True, changes=(), dry_run=dry_run
    )
    return penstock


def test_a_folder_is_read_flat_or_to_its_depth(accepting, folder):
    assert accepting.out("apply", "-f", str(folder), "-o", "name") == "app/a\n"
    assert accepting.out("apply", "-R", "-f", str(folder), "-o", "name") == "app/a\napp/b\n"


def test_a_handlers_path_is_resolved_against_its_files_folder(accepting, folder):
    accepting.out("apply", "-R", "-f", str(folder))
    assert [app.handler for app in applied(accepting)] == [f"{folder}/model.py:Model", f"{folder}/deep/model.py:Model"]


def test_standard_input_is_resolved_against_the_working_folder(accepting, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    accepting.out("apply", "-f", "-", stdin=GOOD.format(name="x"))
    assert applied(accepting)[0].handler == f"{tmp_path}/model.py:Model"


def test_nothing_is_applied_unless_everything_is_right(accepting, folder):
    (folder / "z.yaml").write_text("name: z\nhandler: model.py:Model\nworker: {batchSise: 3}\n")
    done = accepting("apply", "-f", str(folder))
    assert done.exit_code == 1
    assert applied(accepting) == []
    assert done.stderr.startswith(f"{folder}/z.yaml:3:10: ")
    assert "batchSize" in done.stderr


def test_two_files_with_one_app_are_refused(accepting, folder):
    (folder / "z.yaml").write_text(GOOD.format(name="a"))
    done = accepting("apply", "-f", str(folder))
    assert done.exit_code == 1
    assert f"{folder}/z.yaml: the app 'a' stands in {folder}/a.yaml too" in done.stderr
    assert applied(accepting) == []


def test_a_file_that_is_not_there_is_a_usage_error(penstock):
    assert penstock("apply", "-f", "/nowhere.yaml").exit_code == 2


def test_an_empty_file_is_a_usage_error(penstock, tmp_path):
    (tmp_path / "empty.yaml").write_text("")
    assert penstock("validate", "-f", str(tmp_path / "empty.yaml")).exit_code == 2


def test_bytes_that_are_no_text_are_named(penstock, tmp_path):
    file = tmp_path / "a.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    done = penstock("validate", "-f", str(file))
    assert done.exit_code == 1
    assert done.stderr.startswith(f"{file}: it can't be read: ")


def test_validate_needs_no_server(penstock):
    examples = Path(__file__).parents[3] / "examples"
    shown = penstock.out("validate", "-R", "-f", str(examples))
    assert [line.split()[0] for line in shown.splitlines()] == ["app/digits", "app/echo", "app/segmentation"]


def test_schema(penstock):
    schema = json.loads(penstock.out("schema"))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert penstock.out("schema", "-o", "yaml").startswith("$schema: https://json-schema.org")


def test_diff_ends_with_one_where_something_differs(penstock, folder):
    from penstock.model.app_changes import FieldChange
    from penstock.model.documents import AppliedDocument

    change = FieldChange("/spec/worker/batchSize", 1, 64)
    new = FieldChange("/spec/env/X", None, "y" * 200)
    penstock.answers["apps.apply"] = lambda app, dry_run: AppliedDocument(
        name=app.name, generation=2, etag="e", created=False, changes=(change, new), dry_run=dry_run
    )
    done = penstock("diff", "-f", str(folder / "a.yaml"))
    assert done.exit_code == 1
    assert done.stdout.splitlines()[:2] == ["app/a configured (dry run)", "  /spec/worker/batchSize: 1 -> 64"]
    assert done.stdout.splitlines()[2] == f'  /spec/env/X: (none) -> "{"y" * 96}...'
    assert penstock.client.calls[0][2] == {"dry_run": True}
    penstock.answers["apps.apply"] = lambda app, dry_run: AppliedDocument(
        name=app.name, generation=2, etag="e", created=False, changes=(), dry_run=dry_run
    )
    assert penstock.out("diff", "-f", str(folder / "a.yaml")) == ""
