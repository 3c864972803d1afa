"""Makes the bucket and the demo tables in it, for deploy/docker-compose.yml. Done again, it changes nothing."""

from __future__ import annotations

from contextlib import closing

import boto3

from flight_server import config
from flight_server.tables import demo
from flight_server.tables.catalog import open_catalog


def main() -> None:
    settings = config.load()
    s3 = boto3.client("s3", region_name=settings.aws.region, endpoint_url=settings.aws.s3_endpoint)
    s3.create_bucket(Bucket=settings.catalog.warehouse.removeprefix("s3://").partition("/")[0])
    with closing(open_catalog(settings)) as catalog:
        demo.build(catalog, settings.datasets.directory / "tables", lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
