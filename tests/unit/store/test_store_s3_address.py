"""What an S3 URL may say, and what the environment adds to it."""

import pytest

from penstock.errors import Misconfigured
from penstock.store.s3 import connect
from penstock.store.s3.address import read
from penstock.testing.clock import ManualClock

KEYS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}


def test_without_an_endpoint_it_is_amazons():
    found = read("s3://models/in/here?region=eu-west-1", KEYS)
    assert (found.bucket, found.prefix, found.virtual) == ("models", "in/here", True)
    assert found.url == found.public_url == "https://models.s3.eu-west-1.amazonaws.com"
    assert (found.keys.access_key_id, found.keys.secret_access_key) == ("id", "secret")
    assert read("s3://b?region=cn-north-1", {}).url == "https://b.s3.cn-north-1.amazonaws.com.cn"


def test_with_an_endpoint_the_bucket_is_in_the_path():
    found = read("s3://models?endpoint=http://minio:9000/&public_endpoint=https://files.example", KEYS)
    assert (found.url, found.public_url) == ("http://minio:9000/models", "https://files.example/models")
    assert read("s3://b?endpoint=http://h:1&style=virtual", {}).url == "http://b.h:1"


def test_the_environment_says_what_the_url_leaves_open():
    environ = {**KEYS, "AWS_SESSION_TOKEN": "token", "AWS_REGION": "eu-x", "AWS_ENDPOINT_URL": "http://a:1"}
    found = read("s3://b", environ)
    assert (found.region, found.url, found.keys.session_token) == ("eu-x", "http://a:1/b", "token")
    told = read("s3://b?region=r&endpoint=http://t:2&access_key_id=i&secret_access_key=s", environ)
    assert (told.region, told.url) == ("r", "http://t:2/b")
    assert told.keys.session_token == "", "the token of other keys"
    assert read("s3://b", {}).keys is None


@pytest.mark.parametrize(
    "url",
    [
        "s3:",
        "s3:///prefix",
        "s3://id:SECRET@bucket",
        "s3://b?regoin=x&secret_access_key=SECRET",
        "s3://b?style=paht",
        "s3://b?endpoint=minio:9000",
        "s3://b?endpoint=http://h/path",
        "s3://b?access_key_id=only",
    ],
)
def test_what_cannot_be_understood_is_said_without_secrets(url):
    with pytest.raises(Misconfigured) as refused:
        read(url, {})
    assert "SECRET" not in refused.value.detail


def test_a_token_of_other_keys_is_not_sent_with_ours():
    with pytest.raises(Misconfigured, match="AWS_SESSION_TOKEN"):
        connect("s3://b?access_key_id=i&secret_access_key=s", ManualClock(), {"AWS_SESSION_TOKEN": "another's"})
