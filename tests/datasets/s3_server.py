"""A folder served through S3 by moto's server."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer


@contextmanager
def s3_server(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The URL of a bucket with the folder's files, and the environment variables for its server."""
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    try:
        address = "http://{}:{}".format(*server.get_host_and_port())
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
        client = boto3.client(
            "s3", endpoint_url=address, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
        )
        client.create_bucket(Bucket="clips")
        for path in folder.iterdir():
            if path.is_file():
                client.upload_file(str(path), "clips", f"train/{path.name}")
        yield "s3://clips/train", {**keys, "AWS_ENDPOINT_URL": address}
    finally:
        server.stop()
