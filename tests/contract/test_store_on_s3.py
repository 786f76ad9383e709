import pytest
from botocore.exceptions import ClientError
from hypothesis import settings

from penstock.run.clock import SystemClock
from penstock.store.s3 import connect
from penstock.testing.suites.store import StoreRig, StoreSuite
from penstock.testing.suites.store_machine import StoreMachine


def opened(url):
    return connect(url, SystemClock(), {})


class TestS3Store(StoreSuite):
    @pytest.fixture
    async def rig(self, aws):
        s3, bucket = aws.client("s3"), aws.bucket()
        url = aws.url("s3", f"{bucket}/in/here")

        async def peek(key):
            try:
                return s3.get_object(Bucket=bucket, Key=f"in/here/{key}")["Body"].read()
            except ClientError:
                return None

        async def plant(key, data):
            s3.put_object(Bucket=bucket, Key=f"in/here/{key}", Body=data)

        async def leftovers():
            return [upload["Key"] for upload in s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])]

        driver = opened(url)
        await driver.open()
        yield StoreRig(driver=driver, peek=peek, plant=plant, leftovers=leftovers, another=lambda: opened(url), url=url)
        await driver.close()


class S3StoreMachine(StoreMachine):
    aws = None

    def make(self):
        self.bucket = getattr(self, "bucket", None) or self.aws.bucket()
        return opened(self.aws.url("s3", self.bucket))


@pytest.fixture(autouse=True)
def server_of_the_machine(aws):
    S3StoreMachine.aws = aws


S3StoreMachine.TestCase.settings = settings(max_examples=8, stateful_step_count=25, deadline=None)
TestS3StoreMachine = S3StoreMachine.TestCase
