"""Our signatures are Amazon's: the same as its own client makes, byte for byte."""

import datetime as dt
from urllib.parse import parse_qsl, urlsplit

import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from penstock.store.s3.presign import Keys, Presigner

NOW = 1_369_353_600  # 2013-05-24T00:00:00Z, the day of Amazon's example
EXAMPLE = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")


def amazons(keys, method, url, headers, expires_s, monkeypatch):
    """Give the URL that Amazon's own client makes."""
    moment = dt.datetime.fromtimestamp(NOW, dt.UTC).replace(tzinfo=None)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda remove_tzinfo=True: moment)
    request = AWSRequest(method, url, headers=headers)
    credentials = Credentials(keys.access_key_id, keys.secret_access_key, keys.session_token or None)
    S3SigV4QueryAuth(credentials, "s3", "us-east-1", expires=expires_s).add_auth(request)
    return request.url


def test_the_example_of_amazons_documentation():
    url = Presigner("https://examplebucket.s3.amazonaws.com", "us-east-1").url(
        EXAMPLE, "GET", "test.txt", now=NOW, expires_s=86400
    )
    assert url.endswith("X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")


@pytest.mark.parametrize("token", ["", "a/token+with=signs"])
@pytest.mark.parametrize("headers", [{}, {"Content-Length": "123"}, {"If-None-Match": "*", "Content-Length": "0"}])
@pytest.mark.parametrize("base", ["https://files.example:9000/bucket", "http://bucket.s3.eu-west-1.amazonaws.com"])
@pytest.mark.parametrize("key", ["a/b.gz", "with space/ü🙂+&=?#%2F~*'()!", "AppData/app/results/0193.gz"])
def test_our_urls_are_amazons(monkeypatch, token, headers, base, key):
    keys = Keys(EXAMPLE.access_key_id, EXAMPLE.secret_access_key, token)
    ours = Presigner(base, "us-east-1").url(keys, "PUT", key, now=NOW, expires_s=60, headers=headers)
    theirs = amazons(keys, "PUT", ours.partition("?")[0], headers, 60, monkeypatch)
    assert dict(parse_qsl(urlsplit(ours).query)) == dict(parse_qsl(urlsplit(theirs).query))


def test_further_fields_are_signed(monkeypatch):
    signer = Presigner("https://h/bucket", "us-east-1")
    query = {"uploadId": "a/b+c=", "partNumber": "7"}
    ours = signer.url(EXAMPLE, "PUT", "key", now=NOW, expires_s=60, query=query)
    theirs = amazons(EXAMPLE, "PUT", "https://h/bucket/key?partNumber=7&uploadId=a%2Fb%2Bc%3D", {}, 60, monkeypatch)
    assert dict(parse_qsl(urlsplit(ours).query)) == dict(parse_qsl(urlsplit(theirs).query))


@given(st.lists(st.tuples(st.sampled_from(["one", "two"]), st.integers(0, 400_000)), min_size=2, max_size=6))
def test_what_is_kept_never_changes_a_signature(steps):
    kept = Presigner("https://h/bucket", "us-east-1")
    pairs = {"one": Keys("one", "secret"), "two": Keys("two", "other", "token")}
    for name, seconds in steps:
        fresh = Presigner("https://h/bucket", "us-east-1")
        asked = {"method": "GET", "key": "k", "now": NOW + seconds + 0.5, "expires_s": 5}
        assert kept.url(pairs[name], **asked) == fresh.url(pairs[name], **asked)
