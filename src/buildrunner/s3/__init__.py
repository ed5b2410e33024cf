"""Read and write objects on S3 and compatible servers."""

from typing import TYPE_CHECKING

from buildrunner.lazy import export_lazily

if TYPE_CHECKING:
    from buildrunner.s3.bodies import sha256_of as sha256_of
    from buildrunner.s3.bucket import Bucket as Bucket, Fetched as Fetched, Listed as Listed, Part as Part
    from buildrunner.s3.client import S3 as S3, open_s3 as open_s3
    from buildrunner.s3.compatibility import plain_etag as plain_etag
    from buildrunner.s3.errors import (
        AccessRefused as AccessRefused,
        ConditionsUnsupported as ConditionsUnsupported,
        S3Failed as S3Failed,
        Unreachable as Unreachable,
    )
    from buildrunner.s3.reader import ObjectReader as ObjectReader, ObjectResponse as ObjectResponse
else:
    __getattr__ = export_lazily(
        __name__,
        {
            "bodies": "sha256_of",
            "bucket": "Bucket Fetched Listed Part",
            "client": "S3 open_s3",
            "compatibility": "plain_etag",
            "reader": "ObjectReader ObjectResponse",
            "errors": "AccessRefused ConditionsUnsupported S3Failed Unreachable",
        },
    )
