"""Probes, figures and the description of the API."""

from __future__ import annotations

import re

import pytest

from penstock.errors import Unavailable
from penstock.gateway.auth import SCOPES
from penstock.gateway.endpoint import PUBLIC, SIGNED, WORKER
from penstock.gateway.routes import ENDPOINTS
from penstock.model.run import Outcome


@pytest.mark.parametrize("path", ["/health/live", "/healthz", "/health/ready", "/health/ready/full"])
async def test_a_healthy_gateway_says_so(stack, path):
    answer = await stack.ask("GET", path)
    assert (answer.status, answer.json()["status"]) == (200, "ok")


async def test_a_queue_that_is_down_is_degraded_not_unready(stack, monkeypatch):
    async def down(*_):
        raise Unavailable("no answer")

    monkeypatch.setattr(stack.services.queue, "depth", down)
    answer = await stack.ask("GET", "/health/ready")
    assert (answer.status, answer.json()["status"]) == (200, "degraded")
    assert answer.json()["checks"]["queue"] == {"status": "degraded", "detail": "no answer"}


@pytest.mark.parametrize(("part", "verb"), [("ledger", "take_lead"), ("store", "list")])
async def test_without_ledger_or_store_it_is_not_ready(stack, monkeypatch, part, verb):
    async def down(*_, **__):
        raise Unavailable("no answer")

    monkeypatch.setattr(getattr(stack.services, part), verb, down)
    answer = await stack.ask("GET", "/health/ready")
    assert (answer.status, answer.json()["checks"][part]["status"]) == (503, "failed")
    assert (await stack.ask("GET", "/health/live")).status == 200


def figure(text, name):
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else None


async def test_counters_stand_at_zero_before_anything_happened(stack):
    text = (await stack.ask("GET", "/metrics")).body.decode()
    assert figure(text, 'penstock_submissions_total{outcome="created"}') == 0
    assert figure(text, 'penstock_refusals_total{code="TOO_LARGE"}') == 0
    assert figure(text, 'penstock_http_requests_total{method="POST",route="/v1/{app}/infer",status="5xx"}') == 0
    assert figure(text, "penstock_stale_reports_total") == 0


async def test_figures_follow_what_happens(stack):
    for _ in range(2):
        await stack.infer(b"x", Prefer="respond-async")
    await stack.infer(b"y", Prefer="respond-async")
    worker = await stack.worker()
    await worker.serve(Outcome.FAILED)
    await stack.ask("GET", "/v1/echo/status/unknown")
    text = (await stack.ask("GET", "/metrics")).body.decode()
    assert figure(text, 'penstock_submissions_total{outcome="created"}') == 2
    assert figure(text, 'penstock_submissions_total{outcome="joined"}') == 1
    assert figure(text, 'penstock_queue_depth{app="echo",lane="infer"}') == 1
    assert figure(text, 'penstock_queue_oldest_age_seconds{app="echo",lane="infer"}') >= 0
    assert figure(text, 'penstock_leases_total{app="echo",lane="infer"}') == 1
    assert figure(text, 'penstock_workers{app="echo",state="IDLE"}') == 1
    assert figure(text, 'penstock_refusals_total{code="NOT_FOUND"}') == 1
    assert figure(text, 'penstock_http_requests_total{method="POST",route="/v1/{app}/infer",status="2xx"}') == 3
    assert "default" not in text
    assert "unknown" not in text


async def test_the_description_lists_every_route_with_scope_and_errors(stack):
    described = (await stack.ask("GET", "/openapi.json")).json()
    assert described["openapi"].startswith("3.1")
    assert described["servers"] == [{"url": "http://127.0.0.1:8080"}]
    known = {PUBLIC, SIGNED, WORKER, *SCOPES}
    ids = set()
    for endpoint in ENDPOINTS:
        operation = described["paths"][endpoint.path.replace("...", "")][endpoint.method.lower()]
        assert operation["x-scope"] == endpoint.scope
        assert operation["x-scope"] in known
        assert operation["summary"]
        assert operation["responses"]["default"]["content"].keys() == {"application/problem+json"}
        ids.add(operation["operationId"])
    assert len(ids) == len(ENDPOINTS)


async def test_every_reference_in_the_description_leads_somewhere(stack):
    answer = await stack.ask("GET", "/openapi.json")
    schemas = answer.json()["components"]["schemas"]
    wanted = {ref.decode() for ref in re.findall(rb'"#/components/schemas/([^"]+)"', answer.body)}
    assert wanted <= schemas.keys()
    assert {"Problem", "Pending", "RunDocument", "LeaseReply"} <= wanted


async def test_the_page_shows_it_all_and_needs_nothing_else(stack):
    answer = await stack.ask("GET", "/docs")
    page = answer.body.decode()
    assert answer.headers["content-type"].startswith("text/html")
    for endpoint in ENDPOINTS:
        assert endpoint.path.replace("...", "") in page
    assert "<script" not in page
    assert "http://" not in page.replace("http://127.0.0.1:8080", "")
    assert "https://" not in page


async def test_who_am_i_and_which_keys_sign(stack):
    who = (await stack.ask("GET", "/v1/whoami")).json()
    assert (who["sub"], who["tenant"]) == ("anonymous", "default")
    assert set(who["scopes"]) == SCOPES
    assert (await stack.ask("GET", "/.well-known/jwks.json")).json()["keys"][0]["crv"] == "Ed25519"
