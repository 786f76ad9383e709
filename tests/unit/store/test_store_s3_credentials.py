"""Keys of a role: fetched where Amazon's own clients look, renewed before they end, kept while they hold."""

import asyncio

import pytest
from aiohttp import web

from penstock.errors import Misconfigured, Unavailable
from penstock.store.s3.credentials import Renewed, of_the_role
from penstock.store.s3.presign import Keys
from penstock.testing.clock import ManualClock

HOST = "127.0.0.1"
TOLD = {"AccessKeyId": "id", "SecretAccessKey": "secret", "Token": "token", "Expiration": "2030-01-02T03:04:05Z"}
UNTIL = 1893553445.0
KEYS = Keys("id", "secret", "token", UNTIL)
STS = """<AssumeRoleWithWebIdentityResponse><Credentials><AccessKeyId>id</AccessKeyId><SecretAccessKey>secret
</SecretAccessKey><SessionToken>token</SessionToken><Expiration>2030-01-02T03:04:05Z</Expiration></Credentials>
</AssumeRoleWithWebIdentityResponse>""".replace("\n", "")


@pytest.fixture
async def serve():
    """Give a way to start a server with these answers; gives where it listens."""
    runners = []

    async def serve(*routes):
        app = web.Application()
        app.add_routes(routes)
        runner = web.AppRunner(app)
        runners.append(runner)
        await runner.setup()
        site = web.TCPSite(runner, HOST, 0)
        await site.start()
        return f"http://{HOST}:{site._server.sockets[0].getsockname()[1]}"

    yield serve
    for runner in runners:
        await runner.cleanup()


async def test_a_web_identity_is_changed_for_keys(serve, tmp_path):
    async def assume(request):
        asked = await request.post()
        wanted = {"RoleArn": "arn:role", "WebIdentityToken": "from the file"}
        assert {name: asked[name] for name in wanted} == wanted
        return web.Response(text=STS)

    file = tmp_path / "token"
    file.write_text("from the file\n")
    environ = {
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(file),
        "AWS_ROLE_ARN": "arn:role",
        "AWS_ENDPOINT_URL_STS": await serve(web.post("/", assume)),
    }
    assert await of_the_role(environ, "eu-west-1")() == KEYS
    file.unlink()
    with pytest.raises(Misconfigured, match="token"):
        await of_the_role(environ, "eu-west-1")()


async def test_a_containers_endpoint_gives_keys(serve, tmp_path):
    async def give(request):
        return web.json_response(TOLD, status=200 if request.headers["Authorization"] == "right" else 403)

    url = await serve(web.get("/keys", give))
    file = tmp_path / "token"
    environ = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{url}/keys", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(file)}
    file.write_text("right")
    assert await of_the_role(environ, "r")() == KEYS
    file.write_text("wrong")
    with pytest.raises(Misconfigured, match="role"):
        await of_the_role(environ, "r")()


@pytest.mark.parametrize("roles", ["reader", ""])
async def test_a_machines_metadata_gives_keys(serve, roles):
    async def token(request):
        assert request.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        return web.Response(text="t")

    def only_with_token(answer):
        async def give(request):
            return answer() if request.headers.get("X-aws-ec2-metadata-token") == "t" else web.Response(status=401)

        return give

    where = "/latest/meta-data/iam/security-credentials/"
    endpoint = await serve(
        web.put("/latest/api/token", token),
        web.get(where, only_with_token(lambda: web.Response(text=roles))),
        web.get(f"{where}reader", only_with_token(lambda: web.json_response(TOLD))),
    )
    fetch = of_the_role({"AWS_EC2_METADATA_SERVICE_ENDPOINT": endpoint}, "r")
    if roles:
        assert await fetch() == KEYS
    else:
        with pytest.raises(Misconfigured, match="AWS_ACCESS_KEY_ID"):
            await fetch()


async def test_where_nobody_answers_it_says_what_is_missing():
    with pytest.raises(Unavailable, match="no keys for S3"):
        await of_the_role({"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{HOST}:1"}, "r")()


# ------------------------------------------------------------------ renewing


@pytest.fixture
def clock():
    return ManualClock(0.0)


async def test_keys_are_fetched_once_and_again_before_they_end(clock):
    fetched = []

    async def fetch():
        await asyncio.sleep(0)
        fetched.append(clock.now())
        return Keys("id", "secret", "token", clock.now() + 3600)

    source = Renewed(fetch, clock)
    await asyncio.gather(*(source.keys() for _ in range(5)))
    clock.advance(2999)
    await source.keys()
    clock.advance(2)
    assert (await source.keys()).expires_at == 3001 + 3600
    assert fetched == [0, 3001]


async def test_a_failure_is_passed_over_while_keys_hold(clock):
    answers = [Keys("id", "secret", "token", 3600.0)]

    async def fetch():
        if answers:
            return answers.pop()
        raise Unavailable("away")

    source = Renewed(fetch, clock)
    first = await source.keys()
    clock.advance(3500)
    assert await source.keys() is first
    clock.advance(200)
    with pytest.raises(Unavailable):
        await source.keys()
