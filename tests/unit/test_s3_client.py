"""The client of S3 that aiobotocore makes, and those that it needs for credentials."""

from __future__ import annotations

import re
from pathlib import Path

from aiobotocore import credentials, tokens
from botocore import credentials as botocore_credentials

from buildrunner.s3.client import load_models

SOURCES = [credentials.__file__, tokens.__file__, botocore_credentials.__file__]


def test_services_that_provide_credentials_are_listed() -> None:
    """The list replaces that of all of AWS's services, so a later botocore may need one that is missing."""
    source = "".join(Path(path).read_text() for path in SOURCES)
    asked = {"s3", *re.findall(r"""client(?:_creator)?\((?:self\._session,)?\s*['"]([a-z0-9-]+)['"]""", source)}

    assert {"signin", "sts", "sso", "sso-oidc"} <= asked
    assert asked <= set(load_models(None).list_available_services("service-2"))
    for service in asked:
        for model in ("service-2", "endpoint-rule-set-1"):
            assert load_models(None).load_service_model(service, model)
