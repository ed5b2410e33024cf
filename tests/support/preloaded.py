"""Do once what every process of `WarmProgram` would do: read botocore's models of S3, and compile the patterns of a plan."""

from buildrunner.project.overrides import Overrides
from buildrunner.project.plan import plan_build
from buildrunner.s3.client import load_models
from support.harness import ROOT

load_models(None)
plan_build(ROOT / "examples" / "react-app", Overrides(None, None, None, None))
