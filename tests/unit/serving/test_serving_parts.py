"""The small parts of the service: estimates, remembered results, notices, the intake's edges, the keyring."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from penstock.errors import Conflict, Gone, Misconfigured, NotFound, Unauthenticated
from penstock.identity import WorkerClaims, open_keyring
from penstock.ledger.commands import Acceptance, LaneCount, RunFilter, Sweep
from penstock.model.app import DesiredState
from penstock.model.run import Lane, Outcome, Payload, Run, State, Terms
from penstock.serving.notices import Notices
from penstock.serving.outlook import estimate
from penstock.serving.published import Published
from penstock.testing.clock import ManualClock
from service_world import APP, INLINE, Held, World, an_app


def a_run(key: str = "k", *, state: State = State.SUCCEEDED, size: int = 1, ttl_s: float = 100.0, **fields) -> Run:
    return Run(
        id=f"id-{key}",
        seq=1,
        tenant="acme",
        app=APP,
        lane=Lane.INFER,
        key=key,
        generation=1,
        spec_generation=1,
        state=state,
        body=Payload(),
        result=Payload(inline=b"x" * size, size=size),
        terms=Terms(result_ttl_seconds=ttl_s),
        finished_at=1_700_000_000.0,
        **fields,
    )


# ------------------------------------------------------------------ estimates


@pytest.mark.parametrize(
    ("settled", "service_s", "workers", "ahead", "p50"),
    [
        (0, 0.0, 0, 0, 10.1),  # nothing is known: a cold start and a guess
        (0, 0.0, 1, 0, 0.1),
        (19, 190.0, 1, 0, 0.1),  # too few to believe
        (20, 40.0, 1, 0, 2.0),
        (20, 40.0, 1, 9, 20.0),
        (20, 40.0, 4, 9, 5.0),
    ],
)
def test_an_estimate_is_a_cold_start_and_what_is_ahead_over_the_measured_rate(
    settled: int, service_s: float, workers: int, ahead: int, p50: float
) -> None:
    lane = LaneCount(app=APP, lane=Lane.INFER, settled_total=settled, service_seconds=service_s)
    eta = estimate(lane, workers, ahead)
    assert eta.p50 == pytest.approx(p50)
    assert eta.p90 == pytest.approx(2.5 * p50, abs=0.001)


async def test_a_place_in_line_shrinks_as_others_are_served_and_is_none_for_what_runs(world: World) -> None:
    await world.add_worker("w-1")
    runs = [(await world.submit("acme", b"%d" % n, 5)).run for n in range(5)]
    assert (await world.intake.waiting(runs[4])).position == 4
    await world.lease("w-1", 2, idle=True)
    assert (await world.intake.waiting(runs[4])).position == 4  # figures are up to half a second old
    world.clock.advance(1)
    assert (await world.intake.waiting(runs[4])).position == 2
    running = await world.ledger.run(runs[0].id)
    assert running is not None
    waiting = await world.intake.waiting(running)
    assert (waiting.position, waiting.retry_after) == (0, 1)


# ------------------------------------------------------------------ remembered results


def test_what_was_published_is_remembered_until_its_time_is_over() -> None:
    clock = ManualClock()
    published = Published(clock)
    published.add(a_run())
    assert published.get("acme", APP, "k") == a_run()
    assert published.get("umbrella", APP, "k") is None
    clock.advance(100)
    assert published.get("acme", APP, "k") is None
    clock.jump(-50)
    assert published.get("acme", APP, "k") is None  # it is forgotten for good


@pytest.mark.parametrize("fields", [{"state": State.FAILED}, {"purged_at": 1.0}])
def test_what_has_no_result_to_show_is_not_remembered(fields: dict) -> None:
    published = Published(ManualClock())
    published.add(a_run(**fields))
    assert published.get("acme", APP, "k") is None


def test_the_least_recently_asked_for_goes_when_room_is_short() -> None:
    published = Published(ManualClock(), max_bytes=3 * 2048)
    for key in ("a", "b", "c"):
        published.add(a_run(key, size=1024))
    published.get("acme", APP, "a")
    published.add(a_run("c", size=1024))  # again: it counts once
    published.add(a_run("d", size=1024))
    assert [key for key in "abcd" if published.get("acme", APP, key)] == ["a", "c", "d"]
    published.add(a_run("huge", size=10_000))
    assert not [key for key in ("a", "b", "c", "d", "huge") if published.get("acme", APP, key)]


def test_a_deleted_apps_results_are_forgotten() -> None:
    published = Published(ManualClock())
    published.add(a_run())
    published.add(replace(a_run(), app="other"))
    published.forget_app(APP)
    assert published.get("acme", APP, "k") is None
    assert published.get("acme", "other", "k") is not None


# ------------------------------------------------------------------ notices


async def test_whoever_waits_is_told_of_the_end_and_whoever_watches_of_all() -> None:
    notices = Notices()
    watching = notices.watch("id-k", quiet_s=0.01)
    assert await anext(watching) is None  # silence is told, too
    with notices.expect("id-k") as first, notices.expect("id-k") as second:
        assert notices.waiting == 2
        notices.publish(a_run(state=State.RUNNING))
        notices.publish(a_run())
        notices.publish(a_run("another"))
        assert [(await end.within(5)).state for end in (first, second)] == [State.SUCCEEDED] * 2
    assert notices.waiting == 0
    assert [(await anext(watching)).state, (await anext(watching)).state] == [State.RUNNING, State.SUCCEEDED]
    await watching.aclose()


async def test_a_wait_ends_with_its_time_or_with_the_process() -> None:
    notices = Notices()
    with notices.expect("id-k") as end:
        assert await end.within(0.01) is None
    with notices.expect("id-k") as end:
        waiting = asyncio.create_task(end.within(60))
        await asyncio.sleep(0)
        notices.release()
        assert await waiting is None
    assert notices.closing


# ------------------------------------------------------------------ the intake's edges


async def test_an_app_for_some_tenants_does_not_exist_for_others(world: World) -> None:
    await world.change(replace(an_app(), tenants=("acme",)))
    await world.submit("acme", b"input", 5)
    with pytest.raises(NotFound):
        await world.submit("umbrella", b"input", 5)


async def test_a_draining_app_takes_nothing_new_but_answers_what_it_has(world: World) -> None:
    await world.add_worker("w-1")
    await world.submit("acme", b"input", 5)
    (given,) = (await world.lease("w-1", 1, idle=True)).attempts
    await world.settle("w-1", Held("w-1", given).item(Outcome.SUCCEEDED, b"7"))
    done = await world.intake.find("acme", APP, given.key)
    await world.intake.settled(done, 0)
    await world.wish(DesiredState.DRAINING)
    with pytest.raises(Conflict):
        await world.submit("acme", b"another", 5)


async def test_a_large_body_that_lost_its_race_leaves_nothing_behind(world: World) -> None:
    body = b'{"_rid": "same", "pad": "' + b"x" * INLINE + b'"}'
    first = await world.submit("acme", body, 5)
    second = await world.submit("acme", body.replace(b"x", b"y"), 5)
    assert (second.how, second.run.id) == (Acceptance.JOINED, first.run.id)
    requests = [info.key for info in await world.store.list("AppData/")]
    assert requests == [first.run.body.key]
    assert await world.intake.read(first.run.body) == body


async def test_a_waiter_of_an_ended_run_does_not_wait(world: World) -> None:
    accepted = await world.submit("acme", b"input", 5)
    await world.runs.cancel("acme", accepted.run.id)
    async with asyncio.timeout(5):
        assert (await world.intake.settled(accepted.run, 60)).state is State.CANCELLED


async def test_a_purged_run_is_gone_and_can_not_be_retried(world: World) -> None:
    await world.add_worker("w-1")
    accepted = await world.submit("acme", b"input", 5)
    (given,) = (await world.lease("w-1", 1, idle=True)).attempts
    await world.settle("w-1", Held("w-1", given).item(Outcome.FAILED))
    world.clock.advance(5001)
    await world.sweep(Sweep.RESULTS)
    with pytest.raises(Gone):
        await world.intake.find("acme", APP, accepted.run.key)
    with pytest.raises(Gone):
        await world.runs.retry("acme", accepted.run.id)
    assert await world.runs.redrive(RunFilter(tenant="acme")) == 0


async def test_redrive_goes_through_all_pages_and_starts_each_run_once(world: World) -> None:
    for n in range(205):
        await world.submit("acme", b"%d" % n, 5)
    world.clock.advance(1001)
    await world.sweep(Sweep.QUEUE_TTL)
    assert await world.runs.redrive(RunFilter(tenant="umbrella")) == 0
    assert await world.runs.redrive(RunFilter(tenant="acme")) == 205
    assert await world.runs.redrive(RunFilter(tenant="acme")) == 0


# ------------------------------------------------------------------ the keyring


def test_keys_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    clock = ManualClock()
    first = open_keyring(tmp_path / "deep" / "keys.json", clock=clock)
    again = open_keyring(tmp_path / "deep" / "keys.json", clock=clock)
    assert stat.S_IMODE((tmp_path / "deep" / "keys.json").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["keys.json"]
    assert again.verify_worker(first.mint_worker("w-1", APP)) == WorkerClaims(uid="w-1", app=APP)
    assert again.check_dispatch(first.dispatch_token("run", 1, "w-1"), "run", 1, "w-1")
    assert first.jwks() == again.jwks()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"kid": "x", "signing": "AA==", "dispatch": "", "urls": ""}'])
def test_a_file_that_is_no_keyring_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys.json").write_text(text)
    with pytest.raises(Misconfigured, match="not a keyring"):
        open_keyring(tmp_path / "keys.json", clock=ManualClock())


def test_a_folder_that_can_not_be_used_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="can't be used"):
        open_keyring(tmp_path / "file" / "keys.json", clock=ManualClock())


def test_a_dispatch_token_proves_one_attempt_of_one_worker(tmp_path: Path) -> None:
    keyring = open_keyring(tmp_path / "keys.json", clock=ManualClock())
    token = keyring.dispatch_token("run", 1, "w-1")
    for claim in (("other", 1, "w-1"), ("run", 2, "w-1"), ("run", 1, "w-2")):
        assert not keyring.check_dispatch(token, *claim)
    assert not keyring.check_dispatch("", "run", 1, "w-1")
    assert not keyring.check_dispatch("grüße\ud800", "run", 1, "w-1")


def test_a_workers_token_holds_for_its_time_and_in_no_other_form(tmp_path: Path) -> None:
    clock = ManualClock()
    keyring = open_keyring(tmp_path / "keys.json", clock=clock)
    token = keyring.mint_worker("w-1", APP, ttl_s=60)
    keyring.verify_worker(token)
    clock.advance(60 + 31)  # and a little for clocks that differ
    with pytest.raises(Unauthenticated, match="expired"):
        keyring.verify_worker(token)
    claims = {"iss": "penstock", "aud": "penstock:worker", "sub": "w-1", "app": APP, "exp": 2e9}
    other_key = Ed25519PrivateKey.generate()
    forged = [
        jwt.encode(claims, other_key, algorithm="EdDSA"),
        jwt.encode(claims, None, algorithm="none"),
        jwt.encode(claims, "x" * 32, algorithm="HS256"),
        token + "x",
        "",
        "a.b.c",
    ]
    for text in forged:
        with pytest.raises(Unauthenticated):
            keyring.verify_worker(text)


@pytest.mark.parametrize(
    "change", [{"aud": "users"}, {"iss": "someone"}, {"exp": None}, {"sub": None}, {"app": None}, {"exp": "soon"}]
)
def test_a_token_of_ours_that_says_too_little_is_refused(tmp_path: Path, change: dict) -> None:
    keyring = open_keyring(tmp_path / "keys.json", clock=ManualClock())
    claims = {"iss": "penstock", "aud": "penstock:worker", "sub": "w-1", "app": APP, "exp": 2_000_000_000, **change}
    signed = jwt.encode({k: v for k, v in claims.items() if v is not None}, keyring._private, algorithm="EdDSA")
    with pytest.raises(Unauthenticated):
        keyring.verify_worker(signed)
