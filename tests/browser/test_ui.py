"""What a user does in Dagster's UI, done there: with a browser, a daemon and real runs."""

from playwright.sync_api import expect

from tests.browser.conftest import eventually

MINUTELY = "locations/tests.browser.definitions/schedules/each_minute"


def turn_on(ui, schedule):
    ui.open(schedule)
    switch = ui.page.get_by_role("checkbox")
    switch.wait_for(state="attached")
    if not switch.is_checked():
        switch.locator("..").click()
    expect(switch).to_be_checked()


def test_a_schedule_can_be_turned_on(ui):
    # The last test waits for its first minute, which passes while the others run.
    turn_on(ui, MINUTELY)
    ui.page.reload()
    expect(ui.page.get_by_role("checkbox")).to_be_checked()


def test_an_asset_is_materialized_and_shows_what_was_loaded(ui):
    ui.open("assets/movies_dataset/movies")
    ui.shows("Never materialized")
    ui.materialize("movies_dataset/movies")
    ui.shows("Success", exact=True)
    ui.logged("Extracted in", only="Extracted")

    ui.open("assets/movies_dataset/movies")
    ui.shows("Films, each with its plot in a sentence.")
    ui.shows_after_a_reload("Row count")
    for text in ("dlt", "qdrant", "movies_dataset_movies", "primary key", "embedded"):
        ui.shows(text, exact=True)
    expect(ui.metadata("summary")).to_contain_text("13 rows loaded in")
    heading = ui.page.get_by_text("Metadata", exact=True).first
    heading.evaluate("heading => heading.scrollIntoView({block: 'start'})")
    ui.shot("metadata")
    for name, value in (("rows_loaded", "13"), ("rows_embedded", "13")):
        expect(ui.metadata(name)).to_contain_text(value)

    with ui.window_of("preview") as window:
        expect(window).to_contain_text("An astronaut left behind on Mars grows potatoes")
    with ui.window_of("details") as window:
        expect(window).to_contain_text("384 dimensions")
    with ui.window_of("nearest") as window:
        expect(window).to_contain_text("score")
    with ui.window_of("vector_map") as window:
        picture = window.locator("img[src^='data:image/png']")
        expect(picture).to_be_visible()
        assert picture.evaluate("picture => picture.naturalWidth") > 300
        ui.shot("map")

    ui.open("assets/movies_dataset/movies?view=checks")
    ui.shows("search_finds_row")
    ui.shows("Passed")
    ui.shot("checks")


def test_a_load_that_fails_says_first_what_to_do(ui, data_dir):
    ui.materialize("probe/lost")
    ui.shows("Failure", exact=True)
    ui.logged("Failure: No Qdrant could be reached at http://127.0.0.1:9", only="type:STEP_FAILURE")
    ui.shows("Start the server, or set `location` to its URL")
    ui.shot("log")

    failures = data_dir / "failures.log"
    for attempt in eventually(FileNotFoundError):
        with attempt:
            [line] = failures.read_text().splitlines()
    assert "No Qdrant could be reached at http://127.0.0.1:9" in line


def test_a_longer_load_says_how_far_it_is(ui):
    ui.materialize("probe/many")
    ui.shows("Success", exact=True)
    ui.logged("of 300 rows,", only="rows,")


def test_a_file_in_the_inbox_is_loaded_by_the_sensor(ui, data_dir, search):
    ui.open("assets/inbox/notes")
    ui.shows("Never materialized")
    (data_dir / "inbox" / "bike.md").write_text("The bicycle is locked to the fence.")
    ui.shows_after_a_reload("Row count")
    [hit] = search("inbox", "notes", "where did I leave my bike?")
    assert hit.payload["file"] == "bike.md"


def test_an_asset_shows_that_it_is_fresh_and_when_it_is_loaded(ui):
    ui.materialize("shop/reviews")
    ui.shows("Success", exact=True)
    ui.open("assets/shop/reviews")
    ui.shows("on_cron(@hourly, UTC)")
    ui.shows("Fails if more than 6 hours since last materialization")
    ui.shows_after_a_reload("Passing")


def test_a_schedule_that_was_turned_on_loads_by_itself(ui):
    turn_on(ui, MINUTELY)
    ui.shows_after_a_reload("1 run requested")
    ui.open("assets/probe/minutely")
    ui.shows_after_a_reload("Row count")
