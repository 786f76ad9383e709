"""The catalog: present specs and their generations in the control store, shared with other processes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from penstock.errors import Conflict, NotFound
from penstock.model.app import DesiredState, Scaling
from penstock.serving import Catalog
from penstock.store import keys
from service_world import APP, World, an_app


async def test_what_another_process_applied_changed_or_deleted_is_seen_after_a_load(world: World) -> None:
    other = Catalog(world.store, world.clock)
    told: list[str] = []
    other.subscribe(told.append)
    await other.load()
    assert [entry.app.name for entry in other.all()] == [APP]
    await world.catalog.apply(replace(an_app(), name="zebra"))
    await world.change(an_app(max_attempts=1))
    await other.load()
    assert other.get(APP).app.retry.max_attempts == 1
    assert other.get(APP) == world.catalog.get(APP)
    await world.catalog.delete("zebra")
    await other.load()
    assert other.find("zebra") is None
    assert told == [APP, APP, "zebra", "zebra"]
    await other.load()
    assert len(told) == 4  # nothing changed, nobody is told


async def test_an_app_that_another_process_made_is_found_when_it_is_asked_for(world: World) -> None:
    other = Catalog(world.store, world.clock)
    await other.load()
    await world.catalog.apply(replace(an_app(), name="zebra"))
    with pytest.raises(NotFound):
        other.get("zebra")
    both = await asyncio.gather(other.seek("zebra"), other.seek("zebra"))
    assert both == [world.catalog.get("zebra")] * 2


async def test_names_that_nobody_knows_are_not_looked_for_each_time(world: World) -> None:
    other = Catalog(world.store, world.clock)
    with pytest.raises(NotFound):
        await other.seek("zebra")
    await world.catalog.apply(replace(an_app(), name="zebra"))
    with pytest.raises(NotFound):
        await other.seek("zebra")
    world.clock.advance(1.0)
    assert (await other.seek("zebra")).app.name == "zebra"


async def test_what_is_applied_here_during_a_load_is_not_forgotten_by_it(world: World) -> None:
    """The load listed the store before: what it did not see is newer, not gone."""
    listing = world.store.list

    async def apply_after_listing(prefix: str, **more: Any) -> Any:
        page = await listing(prefix, **more)
        if not page:
            world.store.list = listing  # type: ignore[method-assign]
            await world.catalog.apply(replace(an_app(), name="zebra"))
        return page

    world.store.list = apply_after_listing  # type: ignore[method-assign,assignment]
    await world.catalog.load()
    assert world.catalog.find("zebra") is not None


async def test_every_generation_can_be_read_for_as_long_as_runs_refer_to_it(world: World) -> None:
    first = world.catalog.get(APP).app
    await world.change(an_app(max_attempts=1))
    assert await world.catalog.at_generation(APP, 1) == first
    assert (await world.catalog.at_generation(APP, 2)).retry.max_attempts == 1
    fresh = Catalog(world.store, world.clock)
    await fresh.load()
    assert await fresh.at_generation(APP, 1) == first
    with pytest.raises(NotFound):
        await fresh.at_generation(APP, 3)


async def test_a_wish_is_no_new_generation_and_a_name_that_comes_back_goes_on_counting(world: World) -> None:
    assert (await world.catalog.set_desired_state(APP, DesiredState.PAUSED)).generation == 1
    await world.catalog.delete(APP)
    with pytest.raises(NotFound):
        world.catalog.get(APP)
    assert (await world.catalog.apply(an_app())).entry.generation == 2


async def test_an_apply_on_what_has_changed_meanwhile_is_refused(world: World) -> None:
    etag = world.catalog.get(APP).etag
    await world.change(an_app(max_attempts=1))
    with pytest.raises(Conflict):
        await world.catalog.apply(an_app(max_attempts=2), if_match=etag)
    with pytest.raises(Conflict):
        await world.catalog.apply(replace(an_app(), name="new"), if_match="*")
    assert (await world.catalog.apply(an_app(max_attempts=2), if_match="*")).entry.generation == 3


async def test_of_two_processes_that_change_an_app_at_once_one_is_refused_and_learns_why(world: World) -> None:
    other = Catalog(world.store, world.clock)
    await other.load()
    await world.change(an_app(max_attempts=1))
    with pytest.raises(Conflict):
        await other.apply(an_app(max_attempts=2))
    assert other.get(APP).app.retry.max_attempts == 1
    assert (await other.apply(an_app(max_attempts=2))).entry.generation == 3


async def test_a_generation_left_by_a_writer_that_died_is_written_over(world: World) -> None:
    await world.store.put(keys.app_generation(APP, 2), b"name: torn")
    await world.change(an_app(max_attempts=1))
    fresh = Catalog(world.store, world.clock)
    await fresh.load()
    assert (await fresh.at_generation(APP, 2)).retry.max_attempts == 1
    await fresh.apply(an_app())
    again = Catalog(world.store, world.clock)
    await again.load()
    assert (await again.at_generation(APP, 2)).retry.max_attempts == 1


async def test_a_dry_run_tells_and_writes_nothing(world: World) -> None:
    told = await world.catalog.apply(replace(an_app(), scaling=Scaling(max_instances=7)), dry_run=True)
    assert [change.pointer for change in told.changes] == ["/spec/scaling/maxInstances"]
    assert world.catalog.get(APP).app.scaling.max_instances == 0
    new = await world.catalog.apply(replace(an_app(), name="new"), dry_run=True)
    assert new.created
    assert world.catalog.find("new") is None


async def test_notes_and_times_of_an_app_survive_its_storage(world: World) -> None:
    noted = replace(an_app(max_attempts=1), annotations={"team": "vision"}, labels={"env": "lab"})
    made_at = world.catalog.get(APP).created_at
    world.clock.advance(60)
    await world.catalog.apply(noted)
    fresh = Catalog(world.store, world.clock)
    await fresh.load()
    entry = fresh.get(APP)
    assert entry.app == noted
    assert (entry.created_at, entry.updated_at) == (made_at, made_at + 60)
