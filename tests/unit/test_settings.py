from __future__ import annotations

import importlib
import re
import shlex
import string
import time
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from buildrunner.config.secret_names import is_secret_name
from buildrunner.config.settings import Settings, make_build_id, read_settings
from buildrunner.errors import ConfigurationError
from buildrunner.redaction import Redactor

# No deadline: test machines are busy.
QUICKLY = settings(deadline=None, max_examples=60)

REQUIRED = {
    "REPO_URL": "https://github.com/owner/name",
    "SLUG": "my-site",
    "AWS_BUCKET_NAME": "sites",
    "AWS_REGION": "eu-central-1",
    "REDIS_URI": "redis://cache:6379/0",
    "HOME": "/nonexistent",
}
TOKEN = "ghp_x7Qk2ZqW9LmN4bVc8"
OPTIONAL = """STATE_BUCKET_NAME BUILD_ID REPO_REF ROOT_DIR INSTALL_COMMAND BUILD_COMMAND OUTPUT_DIR NODE_VERSION GIT_TOKEN
    REPO_ALLOWED_SCHEMES S3_KEY_PREFIX LOG_FORMAT LOG_CHANNEL EVENT_STREAM LOG_TTL LOG_MAX_BYTES CONSOLE_FORMAT
    CLONE_TIMEOUT UPLOAD_CONCURRENCY ASSET_GRACE DEPENDENCY_CACHE CACHE_SCOPE STRICT_LOCKFILE GIT_SUBMODULES GIT_HISTORY
    AWS_ENDPOINT_URL AWS_ACCESS_KEY_ID SITE_MAX_FILES"""
REDIS_OPTIONS = "db username password protocol client_name ssl_cert_reqs ssl_check_hostname ssl_min_version x"
REFUSED = (
    "LD_PRELOAD LD_LIBRARY_PATH LD_X GLIBC_TUNABLES GCONV_PATH PATH HOME CI SLUG COMMIT_SHA COMMIT_REF COMMIT_X TMPDIR"
)
SECRET_VARIABLES = (
    "AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN GIT_TOKEN INSTALL_ENV_NPM_TOKEN"
    " INSTALL_ENV_API_KEY BUILD_ENV_SENTRY_AUTH_TOKEN BUILD_ENV_MY_SECRET BUILD_ENV_DB_PASS BUILD_ENV_API_PASSWORD"
)
SHOWN_VARIABLES = (
    "SLUG PROJECT_ID BUILD_ID REPO_URL GIT_REPOSITORY__URL AWS_BUCKET_NAME STATE_BUCKET_NAME AWS_REGION AWS_DEFAULT_REGION"
    " AWS_ENDPOINT_URL_S3 AWS_ENDPOINT_URL REPO_REF REPO_ALLOWED_SCHEMES ROOT_DIR INSTALL_COMMAND BUILD_COMMAND OUTPUT_DIR"
    " NODE_VERSION S3_KEY_PREFIX LOG_FORMAT LOG_CHANNEL EVENT_STREAM LOG_TTL LOG_MAX_BYTES CONSOLE_FORMAT CLONE_TIMEOUT"
    " INSTALL_TIMEOUT BUILD_TIMEOUT UPLOAD_TIMEOUT UPLOAD_CONCURRENCY ASSET_GRACE DEPENDENCY_CACHE REDIS_URI"
    " CACHE_SCOPE STRICT_LOCKFILE GIT_SUBMODULES GIT_HISTORY"
    " SITE_MAX_FILES SITE_MAX_BYTES SITE_MAX_FILE_BYTES"
)
SECRET_NAMES, SHOWN_NAMES = SECRET_VARIABLES.split(), SHOWN_VARIABLES.split()


def read(changes: Mapping[str, str | None] | None = None, **more: str | None) -> Settings:
    environment = {**REQUIRED, **(changes or {}), **more}
    return read_settings({name: value for name, value in environment.items() if value is not None})


def problems(changes: Mapping[str, str | None] | None = None, **more: str | None) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        read(changes, **more)
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    return caught.value.problems


def only_problem(changes: Mapping[str, str | None] | None = None, **more: str | None) -> str:
    (problem,) = problems(changes, **more)
    return problem


# --- the table ---


def test_the_defaults_are_those_that_are_promised() -> None:
    found = read()

    assert found.repository.url == "https://github.com/owner/name"
    assert (found.repository.scheme, found.repository.ref, found.repository.password) == ("https", None, None)
    given = {"repository", "build_id", "secrets"}
    assert {field.name: getattr(found, field.name) for field in fields(found) if field.name not in given} == {
        "slug": "my-site",
        "bucket": "sites",
        "state_bucket": "sites",
        "region": "eu-central-1",
        "s3_endpoint_url": None,
        "redis_uri": "redis://cache:6379/0",
        "root_dir": None,
        "install_command": None,
        "build_command": None,
        "output_dir": None,
        "node_version": None,
        "build_env": {},
        "install_env": {},
        "s3_key_prefix": "my-site/",
        "log_format": "text",
        "log_channel": "logs:my-site",
        "event_stream": "events:my-site",
        "log_ttl": 86400,
        "log_max_bytes": 67108864,
        "console_format": "auto",
        "clone_timeout": 120,
        "install_timeout": 600,
        "build_timeout": 1200,
        "upload_timeout": 600,
        "upload_concurrency": 64,
        "site_max_files": 100_000,
        "site_max_bytes": 10 * 2**30,
        "site_max_file_bytes": 2**30,
        "site_url": None,
        "build_url": None,
        "webhook_url": None,
        "summary": "off",
        "traceparent": None,
        "webhook_key": b"",
        "webhook_allow_private": False,
        "commit_status": None,
        "commit_status_url": None,
        "commit_status_token": None,
        "asset_grace": 604800,
        "noindex": False,
        "strict_references": False,
        "dependency_cache": "s3",
        "cache_scope": "my-site",
        "strict_lockfile": False,
        "git_submodules": True,
        "s3_fast_put": True,
        "git_history": "auto",
    }


@pytest.mark.parametrize(
    ("name", "value", "attribute", "expected"),
    [
        ("SLUG", "a", "slug", "a"),
        ("SLUG", "0-9", "slug", "0-9"),
        ("SLUG", "x" * 63, "slug", "x" * 63),
        ("BUILD_ID", "My_build-1", "build_id", "My_build-1"),
        ("BUILD_ID", "x" * 64, "build_id", "x" * 64),
        ("STATE_BUCKET_NAME", "state", "state_bucket", "state"),
        ("AWS_BUCKET_NAME", "arn:aws:s3:eu-central-1:123456789012:accesspoint/a", "bucket", None),
        ("REDIS_URI", "rediss://:secret@cache:6380", "redis_uri", None),
        ("REDIS_URI", "unix:///run/redis.sock?db=2", "redis_uri", None),
        ("AWS_REGION", "us-gov-east-1", "region", None),
        ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9000", "s3_endpoint_url", None),
        ("AWS_ENDPOINT_URL", "https://s3.example.com", "s3_endpoint_url", None),
        ("ROOT_DIR", "./apps/web/", "root_dir", "apps/web"),
        ("ROOT_DIR", ".", "root_dir", "."),
        ("INSTALL_COMMAND", "npm install && true", "install_command", None),
        ("BUILD_COMMAND", "make site", "build_command", None),
        ("OUTPUT_DIR", "build/client", "output_dir", None),
        ("NODE_VERSION", ">=20 <23", "node_version", None),
        ("S3_KEY_PREFIX", "__outputs/{slug}/", "s3_key_prefix", "__outputs/my-site/"),
        ("S3_KEY_PREFIX", "a/{slug}/b/", "s3_key_prefix", "a/my-site/b/"),
        ("LOG_FORMAT", "json", "log_format", "json"),
        ("LOG_CHANNEL", "{slug}", "log_channel", "my-site"),
        ("LOG_CHANNEL", "a:{slug}:{slug}", "log_channel", "a:my-site:my-site"),
        ("EVENT_STREAM", "e {slug} ü", "event_stream", "e my-site ü"),
        ("LOG_TTL", "1", "log_ttl", 1),
        ("LOG_MAX_BYTES", "1", "log_max_bytes", 1),
        ("CONSOLE_FORMAT", "json", "console_format", "json"),
        ("CLONE_TIMEOUT", "0.5", "clone_timeout", 0.5),
        ("INSTALL_TIMEOUT", "1", "install_timeout", 1),
        ("BUILD_TIMEOUT", "86400", "build_timeout", 86400),
        ("UPLOAD_TIMEOUT", "30", "upload_timeout", 30),
        ("UPLOAD_CONCURRENCY", "1", "upload_concurrency", 1),
        ("SITE_MAX_FILES", "1", "site_max_files", 1),
        ("SITE_MAX_BYTES", "1", "site_max_bytes", 1),
        ("SITE_MAX_FILE_BYTES", "5497558138880", "site_max_file_bytes", 5 * 2**40),
        ("ASSET_GRACE", "0", "asset_grace", 0),
        ("ROBOTS", "noindex", "noindex", True),
        ("STRICT_REFERENCES", "1", "strict_references", True),
        ("DEPENDENCY_CACHE", "off", "dependency_cache", "off"),
        ("DEPENDENCY_CACHE", "/var/cache/x", "dependency_cache", "/var/cache/x"),
        ("CACHE_SCOPE", "customer-7", "cache_scope", "customer-7"),
        ("STRICT_LOCKFILE", "1", "strict_lockfile", True),
        ("STRICT_LOCKFILE", "0", "strict_lockfile", False),
        ("GIT_SUBMODULES", "off", "git_submodules", False),
        ("GIT_SUBMODULES", "on", "git_submodules", True),
        ("S3_FAST_PUT", "off", "s3_fast_put", False),
        ("GIT_HISTORY", "full", "git_history", "full"),
        ("BUILD_ENV_VITE_API_URL", "https://api", "build_env", {"VITE_API_URL": "https://api"}),
        ("INSTALL_ENV_NPM_TOKEN", "", "install_env", {"NPM_TOKEN": ""}),
    ],
)
def test_a_variable_is_read(name: str, value: str, attribute: str, expected: Any) -> None:
    assert getattr(read({name: value}), attribute) == (value if expected is None else expected)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("SLUG", ["-a", "a-", "A", "a_b", "a.b", "x" * 64, "a b", "a\n", "ä", "../x", "-", "a/b", "٣"]),
        ("BUILD_ID", ["a b", "x" * 65, "a/b", "ü", "a\n", "{slug}"]),
        ("AWS_BUCKET_NAME", ["a/b", "a b", "ü", "s3://sites", "sites\n"]),
        ("STATE_BUCKET_NAME", ["a/b"]),
        ("AWS_REGION", ["eu central", "../x", "123", "-a", "eu-central-1\n"]),
        ("AWS_ENDPOINT_URL_S3", ["localhost:9000", "ftp://x", "http://", "http://x:y", " http://x", "http://-x"]),
        ("AWS_ENDPOINT_URL", ["minio"]),
        (
            "REPO_REF",
            ["-x", "--upload-pack=x", "a..b", "a b", "a:b", "/a", "a/", "a.lock", "@", "a@{1}", "~", ".a", "\n"],
        ),
        ("ROOT_DIR", ["/etc", "..", "a/../../b", "a/.git", "a\nb"]),
        ("OUTPUT_DIR", ["/", "../dist"]),
        ("INSTALL_COMMAND", [" "]),
        ("BUILD_COMMAND", ["\t"]),
        ("NODE_VERSION", ["ü", "x" * 101]),
        ("REPO_ALLOWED_SCHEMES", ["ftp", "https,ext", "https,,http", ",", "HTTPS", "https http"]),
        ("LOG_FORMAT", ["JSON", "xml"]),
        ("LOG_TTL", ["0", "-1", "1.5", "1e3", "٣", " 1", "x"]),
        ("LOG_MAX_BYTES", ["0", "64M", "99999999999999999999999"]),
        ("CONSOLE_FORMAT", ["color"]),
        ("CLONE_TIMEOUT", ["0", "-1", "nan", "inf", "1e9", "86401", "2 m", ".5"]),
        ("INSTALL_TIMEOUT", ["x"]),
        ("BUILD_TIMEOUT", ["0.0"]),
        ("UPLOAD_TIMEOUT", ["1_000"]),
        ("UPLOAD_CONCURRENCY", ["0", "1025", "ten"]),
        ("SITE_MAX_FILES", ["0", "1k"]),
        ("SITE_MAX_BYTES", ["0", "10G", "1Gi", "x1GiB"]),
        ("SITE_MAX_FILE_BYTES", ["0", "5497558138881"]),
        ("ASSET_GRACE", ["-1", "forever"]),
        ("DEPENDENCY_CACHE", ["on", "S3", "cache", "./cache", "/"]),
        ("CACHE_SCOPE", ["a/b", "..", "A", "-a", "x" * 64]),
        ("STRICT_LOCKFILE", ["true", "2", "on"]),
        ("GIT_SUBMODULES", ["0", "ON", "recursive"]),
        ("GIT_HISTORY", ["0", "FULL", "on"]),
        ("GIT_TOKEN", ["a b", "a\n", "ü"]),
        ("AWS_SESSION_TOKEN", ["a\n"]),
    ],
)
def test_a_malformed_value_names_its_variable_value_and_rule(name: str, values: list[str]) -> None:
    for value in values:
        problem = only_problem({name: value})

        shown = "a value that is not shown" if "TOKEN" in name else ascii(value)[:100]
        assert problem.startswith(f"{name} is {shown}")
        assert re.search(r", but must be .{5,}\.$", problem)
        assert problem.isprintable()


@pytest.mark.parametrize("name", sorted(REQUIRED.keys() - {"HOME"}))
@pytest.mark.parametrize("value", [None, ""])
def test_what_is_required_and_missing_is_named(name: str, value: str | None) -> None:
    assert only_problem({name: value}).startswith(f"{name} is missing")


@pytest.mark.parametrize(("name", "alias"), [("SLUG", "PROJECT_ID"), ("REPO_URL", "GIT_REPOSITORY__URL")])
def test_the_other_family_of_platforms_has_other_names(name: str, alias: str) -> None:
    value = {"SLUG": "other", "REPO_URL": "https://h/other"}[name]
    malformed = {"SLUG": "Other", "REPO_URL": "other"}[name]

    for changes in ({name: None, alias: value}, {name: "", alias: value}, {name: value, alias: malformed}):
        found = read(changes)
        assert value in {found.slug, found.repository.url}
    assert only_problem({name: None, alias: malformed}).startswith(f"{alias} is {malformed!r}")


def test_an_optional_variable_that_is_empty_is_not_set() -> None:
    optional = OPTIONAL.split()

    found, default = read(dict.fromkeys(optional, "")), read()

    for field in fields(found):
        if field.name != "build_id":
            assert getattr(found, field.name) == getattr(default, field.name)


def test_every_problem_is_named_in_one_message() -> None:
    changes = {"SLUG": "My Site", "REPO_URL": None, "LOG_TTL": "soon", "BUILD_ENV_PATH": "x", "REDIS_URI": "http://x"}

    found = problems(changes)

    assert sorted(problem.split()[0] for problem in found) == sorted(changes)
    with pytest.raises(ConfigurationError, match="5 problems; nothing was started"):
        read(changes)


# --- REPO_URL ---


@pytest.mark.parametrize(
    "url",
    [
        "--upload-pack=touch /tmp/x",
        "-x",
        "ext::sh -c id",
        "ext::id",
        "https::https://h/x",
        "fd::17/x",
        "https:/h/x",
        "https:h/x",
        "//h/x",
        "h/x",
        "owner/name",
        "HTTPS://h/x",
        "git://h/x",
        "http://h/x",
        "ssh://h/x",
        "file:///x",
        "git@github.com:owner/name",
        "https://",
        "https://h",
        "https://h/",
        "https:///x",
        "https://-h/x",
        "https://%2dh/x",
        "https://-u@h/x",
        "https://h:port/x",
        "https://h:0/x",
        "https://h:99999/x",
        "https://[::1/x",
        "https://h/x y",
        "https://h/x\n",
        "https://h/x%0ay",
        "https://h/x%00",
        "https://h\\@evil/x",
        "https://h/x?a=b",
        "https://h/x#main",
        "https://h/x?",
        "https://h/\udcff",
    ],
)
def test_repo_url_is_an_address_and_nothing_else(url: str) -> None:
    problem = only_problem(REPO_URL=url)

    assert problem.startswith("REPO_URL is ")
    assert ", but must be " in problem


@pytest.mark.parametrize(
    ("url", "scheme", "expected"),
    [
        ("http://h:8080/x", "http", "http://h:8080/x"),
        ("ssh://git@h/x", "ssh", "ssh://git@h/x"),
        ("file:///srv/x", "file", "file:///srv/x"),
        ("file://localhost/srv/x", "file", "file:///srv/x"),
        ("https://[::1]:8443/x", "https", "https://[::1]:8443/x"),
    ],
)
def test_a_scheme_is_allowed_by_its_name(url: str, scheme: str, expected: str) -> None:
    repository = read(REPO_URL=url, REPO_ALLOWED_SCHEMES=f"{scheme}, https").repository

    assert (repository.url, repository.scheme) == (expected, scheme)
    if scheme != "https":
        others = ",".join({"https", "http", "ssh", "file"} - {scheme})
        assert only_problem(REPO_URL=url, REPO_ALLOWED_SCHEMES=others).startswith("REPO_URL")


@pytest.mark.parametrize(
    "url", ["ssh://-oProxyCommand=id/x", "ssh://%2doProxyCommand=id/x", "ssh://%2du@h/x", "ssh://u:p@h/x"]
)
def test_an_ssh_address_can_be_no_option_of_ssh(url: str) -> None:
    assert only_problem(REPO_URL=url, REPO_ALLOWED_SCHEMES="ssh").startswith("REPO_URL")


def test_file_has_no_host() -> None:
    assert "absolute path" in only_problem(REPO_URL="file://host/x", REPO_ALLOWED_SCHEMES="file")


@pytest.mark.parametrize(
    ("url", "token", "username", "password"),
    [
        ("https://h/x", "t0ken", "x-access-token", "t0ken"),
        ("https://x-token-auth@h/x", "t0ken", "x-token-auth", "t0ken"),
        ("https://u:p%40ss@h/x", "t0ken", "x-access-token", "t0ken"),
        ("https://u:p%40ss@h/x", None, "u", "p@ss"),
        ("https://ghp_0123456789abcdef@h/x", None, "ghp_0123456789abcdef", ""),
        ("https://git@h/x", None, None, None),
        ("https://u:p@h@evil:8443/x", None, "u", "p@h"),
    ],
)
def test_user_info_leaves_the_address(url: str, token: str | None, username: str | None, password: str | None) -> None:
    repository = read(REPO_URL=url, GIT_TOKEN=token).repository

    assert "@" not in repository.url
    assert repository.origin == ("https://evil:8443" if "evil" in url else "https://h")
    assert (repository.username, repository.password) == (username, password)
    assert not password or password not in repr(repository)


@pytest.mark.parametrize("ref", ["main", "v1.2.3", "feature/a-b", "0123456789" * 4, "refs/heads/x", "ünïcödé", "a@b"])
def test_a_ref_that_git_allows_is_taken(ref: str) -> None:
    assert read(REPO_REF=ref).repository.ref == ref


# --- REDIS_URI ---


@pytest.mark.parametrize(
    "uri",
    [
        "cache:6379",
        "http://cache",
        "redis:cache",
        "REDIS://cache",
        "redis://",
        "redis://cache:port",
        "redis://cache:0",
        "redis://cache/zero",
        "redis://cache:6379/0\n",
        " redis://cache",
        "redis://:a b@cache",
        "redis://[::1",
        "redis://cache?socket_timeout=1",
        "redis://cache?db=zero",
        "redis://cache?protocol=7",
        "redis://cache?db",
        "redis://cache?ssl_ca_certs=/x",
        "rediss://cache?ssl_cert_reqs=none",
        "rediss://cache?ssl_cert_reqs=NONE",
        "rediss://cache?ssl_cert_reqs=Required",
        "rediss://cache?ssl_min_version=5",
        "unix:relative",
        "unix:/run/redis.sock",
        "unix://relative",
    ],
)
def test_a_redis_uri_that_cannot_work_is_refused(uri: str) -> None:
    problem = only_problem(REDIS_URI=uri)

    assert problem.startswith("REDIS_URI is a value that is not shown, but must be ")
    assert len(uri) < 9 or uri.strip() not in problem


@QUICKLY
@given(
    st.sampled_from(["redis://", "rediss://", "unix://"]),
    st.sampled_from(["", ":pässw%20rd@", "default:x@"]),
    st.sampled_from(["cache", "cache:6380", "[::1]:1", "10.0.0.1", "", "a..b", "x" * 70]),
    st.sampled_from(["", "/", "/0", "/15", "/run/redis.sock", "/007"]),
    st.dictionaries(
        st.sampled_from(REDIS_OPTIONS.split()),
        st.sampled_from(["0", "1", "2", "3", "771", "required", "optional", "none", "false", "True", "", "ü"]),
        max_size=3,
    ),
)
def test_what_is_accepted_is_accepted_by_the_client_too(
    scheme: str, user: str, host: str, path: str, options: dict[str, str]
) -> None:
    uri = f"{scheme}{user}{host}{path}" + ("?" + "&".join(f"{k}={v}" for k, v in options.items()) if options else "")
    try:
        read(REDIS_URI=uri)
    except ConfigurationError:
        return

    pool = importlib.import_module("redis.asyncio").ConnectionPool.from_url(uri)
    connection = pool.make_connection()
    context = getattr(connection, "ssl_context", None)
    assert (context is not None) == (scheme == "rediss://")
    if context:
        assert context.get().verify_mode.name in {"CERT_REQUIRED", "CERT_OPTIONAL"}


# --- placeholders ---


@pytest.mark.parametrize("name", ["LOG_CHANNEL", "EVENT_STREAM"])
@pytest.mark.parametrize(
    "value", ["logs", "{slug", "{Slug}", "{slug}{build}", "{slug}}", "{}", "a\n{slug}", "{slug}\u202e", "{slug}\udcff"]
)
def test_a_template_holds_slug_and_nothing_else(name: str, value: str) -> None:
    assert only_problem({name: value}).startswith(f"{name} is ")


@pytest.mark.parametrize(
    "value",
    [
        "{slug}",
        "sites/",
        "/{slug}/",
        "/",
        "a-{slug}/",
        "{slug}-a/",
        "__logs/{slug}/",
        "__manifests/{slug}/",
        "__cache/{slug}/",
        "__routing/{slug}/",
        "__objects/{slug}/",
        "{slug}/{build}/",
        "a//{slug}/",
        "../{slug}/",
        "./{slug}/",
        "{slug}/\n/",
        "\udcff/{slug}/",
    ],
)
def test_a_key_prefix_is_the_slugs_own_folder(value: str) -> None:
    assert only_problem(S3_KEY_PREFIX=value).startswith("S3_KEY_PREFIX is ")


# --- BUILD_ENV_ and INSTALL_ENV_ ---


@pytest.mark.parametrize("prefix", ["BUILD_ENV_", "INSTALL_ENV_"])
@pytest.mark.parametrize(
    "name",
    REFUSED.split(),
)
def test_names_that_load_programs_or_are_ours_are_refused(prefix: str, name: str) -> None:
    problem = only_problem({f"{prefix}{name}": "hunter2-hunter2"})

    assert problem.startswith(f"{prefix}{name} is refused")
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    "name", ["BUILD_ENV_", "BUILD_ENV_1A", "INSTALL_ENV_A B", "INSTALL_ENV_A;B", "BUILD_ENV_BASH_FUNC_x%%"]
)
def test_a_name_behind_the_prefix_is_that_of_a_variable(name: str) -> None:
    assert repr(name) in only_problem({name: "value"})


def test_names_that_are_close_to_refused_ones_are_not() -> None:
    names = ["LD", "MY_PATH", "NODE_PATH", "CI_X", "VITE_SLUG", "NODE_OPTIONS", "HOMEPAGE", "path", "COMMIT"]

    assert list(read({f"BUILD_ENV_{name}": "x" for name in names}).build_env) == names


# --- AWS ---


@pytest.mark.parametrize(
    ("environment", "config", "expected"),
    [
        ({"AWS_REGION": "a-1", "AWS_DEFAULT_REGION": "b-1"}, "[default]\nregion = c-1", "a-1"),
        ({"AWS_DEFAULT_REGION": "b-1"}, "[default]\nregion = c-1", "b-1"),
        ({}, "[default]\nregion = c-1\n[profile other]\nregion = d-1", "c-1"),
        (
            {"AWS_PROFILE": "other"},
            "[default]\nregion = c-1\n[profile other]\nregion=d-1\ns3 =\n  addressing_style = path",
            "d-1",
        ),
        ({"AWS_DEFAULT_PROFILE": "other"}, "[profile other]\nregion = d-1", "d-1"),
    ],
)
def test_the_region_is_found_where_aws_has_it(
    environment: dict[str, str], config: str, expected: str, tmp_path: Path
) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/config").write_text(config)
    (tmp_path / "elsewhere").write_text(config)

    for place in ({"HOME": str(tmp_path)}, {"AWS_CONFIG_FILE": str(tmp_path / "elsewhere")}):
        assert read({"AWS_REGION": None, **environment, **place}).region == expected


@pytest.mark.parametrize(
    ("config", "environment"),
    [
        ("", {}),
        ("no section", {}),
        ("[default]\noutput = json", {}),
        ("[default]\nregion =", {}),
        ("[default]\nregion = c-1", {"AWS_PROFILE": "other"}),
        ("\udcff", {}),
    ],
)
def test_a_configuration_without_the_region_is_a_missing_region(
    config: str, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "config").write_bytes(config.encode("utf-8", "surrogateescape"))
    place = {"AWS_CONFIG_FILE": str(tmp_path / "config")}

    assert only_problem({"AWS_REGION": None, **environment, **place}).startswith("AWS_REGION is missing")
    assert only_problem({"AWS_REGION": None, "AWS_CONFIG_FILE": str(tmp_path)}).startswith("AWS_REGION is missing")


def test_a_region_that_is_malformed_is_named_by_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[default]\nregion = eu central")
    place = {"AWS_CONFIG_FILE": str(tmp_path / "config")}

    assert only_problem(AWS_REGION=None, AWS_DEFAULT_REGION="a b").startswith("AWS_DEFAULT_REGION is 'a b'")
    assert "AWS configuration" in only_problem({"AWS_REGION": None, **place})


def test_half_a_pair_of_keys_is_a_problem() -> None:
    assert only_problem(AWS_ACCESS_KEY_ID="AKIAXXXX").startswith("AWS_SECRET_ACCESS_KEY is missing")
    assert only_problem(AWS_SECRET_ACCESS_KEY="x" * 20).startswith("AWS_ACCESS_KEY_ID is missing")
    assert read(AWS_ACCESS_KEY_ID="AKIAXXXX", AWS_SECRET_ACCESS_KEY="x" * 20).region


# --- BUILD_ID ---


def test_a_made_id_follows_its_own_rule_and_sorts_by_time() -> None:
    ids = []
    for _ in range(50):
        ids.append(make_build_id())
        time.sleep(0.0001)

    assert ids == sorted(set(ids))
    assert all(read(BUILD_ID=made).build_id == made for made in ids)
    random = [made.rpartition("-")[2] for made in ids]
    assert all(re.fullmatch("[0-9a-f]{16}", text) for text in random)  # 64 bits
    assert len(set(random)) == len(random)
    assert len({read().build_id for _ in range(10)}) == 10


# --- secrets ---


# Their prefix occurs in no message, and is long enough to be redacted.
SECRETS = st.builds(
    lambda secret: f"zQ7~Kx{secret}",
    st.one_of(
        st.text(string.ascii_letters + string.digits + "+/=_-", max_size=60),
        st.text(st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\0\r\n"), max_size=30),
        st.binary(max_size=20).map(lambda data: data.replace(b"\0", b"x").decode("utf-8", "surrogateescape")),
    ),
)


def assert_hidden(message: str, secret: str) -> None:
    for form in (secret, ascii(secret)[1:-1], repr(secret)[1:-1], shlex.quote(secret).strip("'")):
        assert form not in message


@QUICKLY
@given(st.dictionaries(st.sampled_from(SECRET_NAMES), SECRETS, min_size=1), st.data())
def test_a_secret_in_any_variable_is_never_in_a_message(secrets: dict[str, str], data: st.DataObject) -> None:
    stray = {
        name: data.draw(st.sampled_from(["", "x" * 190, "a b "]))
        + data.draw(st.sampled_from(list(secrets.values())))
        + after
        for name, after in data.draw(
            st.dictionaries(st.sampled_from(SHOWN_NAMES), st.sampled_from(["", "!", "\n", "://"]), min_size=1)
        ).items()
    }
    try:
        read({**stray, **secrets})
    except ConfigurationError as error:
        for value in secrets.values():
            assert_hidden(str(error), value)


@QUICKLY
@given(SECRETS, st.sampled_from(SECRET_NAMES), st.sampled_from(["", " ", "\n"]))
def test_the_value_of_a_secret_variable_is_never_in_a_message(secret: str, name: str, after: str) -> None:
    found = problems({name: secret + after, "SLUG": None})

    assert_hidden("\n".join(found), secret)


PASSWORDS = st.text(string.ascii_letters + string.digits + "/?#:@+=%&!$~ \n", min_size=8, max_size=40).filter(
    lambda text: len(re.sub(r"[^A-Za-z0-9]", "", text)) >= 8
)


@QUICKLY
@given(
    PASSWORDS,
    st.sampled_from(["REPO_URL", "GIT_REPOSITORY__URL", "REDIS_URI", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"]),
    st.sampled_from(
        ["https://user:", "https://", "ext::https://u:", "user:", "redis://:", "git+https://u:", "HTTPS://u:", "//u:"]
    ),
    st.sampled_from(["@host", "@host/path", "@host:port/x", "@[/x", "@-host/x?a=b"]),
)
@example("ghp_/0123456789abcdef", "REPO_URL", "https://user:", "@github.com/owner/name")
def test_user_info_of_an_address_is_never_in_a_message(password: str, name: str, before: str, after: str) -> None:
    changes: dict[str, str | None] = {name: f"{before}{password}{after}", "SLUG": None}
    if name == "GIT_REPOSITORY__URL":
        changes["REPO_URL"] = None

    message = "\n".join(problems(changes))

    assert_hidden(message, password)
    for part in re.findall(r"[A-Za-z0-9]{6,}", password):
        assert part not in message


@pytest.mark.parametrize("rest", [f"?private_token={TOKEN}", f"#{TOKEN}", f"?x#{TOKEN}"])
def test_what_stands_behind_the_path_of_an_address_is_not_shown(rest: str) -> None:
    problem = only_problem(REPO_URL=f"https://gitlab.com/owner/name{rest}")

    assert "https://gitlab.com/owner/name" in problem
    assert TOKEN not in problem


def test_a_problem_shows_no_more_than_helps() -> None:
    assert len(only_problem(SLUG="x" * 100_000)) < 400


@pytest.mark.parametrize(
    ("environment", "secrets"),
    [
        ({"GIT_TOKEN": TOKEN}, [TOKEN]),
        ({"AWS_ACCESS_KEY_ID": "AKIA0123", "AWS_SECRET_ACCESS_KEY": TOKEN}, ["AKIA0123", TOKEN]),
        ({"AWS_SESSION_TOKEN": TOKEN}, [TOKEN]),
        ({"INSTALL_ENV_ANY_TOKEN": TOKEN}, [TOKEN]),
        ({"INSTALL_ENV_CODE": TOKEN, "REDACT_VARS": "X,CODE"}, [TOKEN]),
        ({"BUILD_ENV_MY_CODE_1": TOKEN, "REDACT_VARS": " *_CODE_* "}, [TOKEN]),
        ({"BUILD_ENV_DB_PASS": "12345678"}, ["12345678"]),
        ({"INSTALL_ENV_DB": f"mongodb://u:{TOKEN}@db/x"}, [TOKEN]),
        ({"BUILD_ENV_SENTRY_AUTH_TOKEN": TOKEN}, [TOKEN]),
        ({"BUILD_ENV_private_key": TOKEN}, [TOKEN]),
        ({"REPO_URL": f"https://x:{TOKEN}@h/x"}, [TOKEN]),
        ({"REPO_URL": f"https://{TOKEN}@h/x"}, [TOKEN]),
        ({"REPO_URL": "https://x:p%40ssw0rd-1@h/x"}, ["p@ssw0rd-1", "p%40ssw0rd-1"]),
        ({"REDIS_URI": f"rediss://default:{TOKEN}@cache"}, [TOKEN]),
        ({"REDIS_URI": f"redis://:{TOKEN}@cache"}, [TOKEN]),
        ({"REDIS_URI": f"redis://cache?password={TOKEN}"}, [TOKEN]),
        ({"AWS_ENDPOINT_URL_S3": f"https://u:{TOKEN}@minio"}, [TOKEN]),
        ({"https_proxy": f"http://u:{TOKEN}@proxy:3128"}, [TOKEN]),
        ({"HTTPS_PROXY": f"u:{TOKEN}@proxy:3128"}, [TOKEN]),
    ],
)
def test_the_redactor_knows_every_secret(environment: dict[str, str], secrets: list[str]) -> None:
    found = read(environment)

    redactor = Redactor(found.secrets)
    for secret in secrets:
        assert redactor.redact(f"it is {secret}.") == "it is [redacted]."
        assert secret not in repr(found)


@pytest.mark.parametrize(
    "environment",
    [
        {"REPO_URL": "ssh://git@github.com/owner/name", "REPO_ALLOWED_SCHEMES": "ssh"},
        {"BUILD_ENV_VITE_API_URL": "https://api.example.com"},
        {"REDIS_URI": "redis://default@cache:6379"},
        {"no_proxy": "localhost,127.0.0.1", "http_proxy": "http://proxy:3128"},
        {"BUILD_ENV_AUTH_PROVIDER": "github", "BUILD_ENV_SITE_AUTHOR": "Jane Doe"},
        {"INSTALL_ENV_NPM_CONFIG_LOGLEVEL": "verbose", "BUILD_ENV_PATH_PREFIX": "/my-site"},
        {"INSTALL_ENV_CODE": "abcdefgh", "BUILD_ENV_QR_CODE_URL": "abcdefgh", "REDACT_VARS": "CODE_*,QR"},
    ],
)
def test_what_is_no_secret_is_not_hidden(environment: dict[str, str]) -> None:
    redactor = Redactor(read(environment).secrets)

    for text in environment.values():
        assert redactor.redact(text) == text


@pytest.mark.parametrize(
    "name",
    [
        "TOKEN",
        "NPM_TOKEN",
        "githubToken",
        "MY_SECRET",
        "SECRETS",
        "DB_PASSWORD",
        "DB_PASSWD",
        "DB_PASS",
        "passphrase",
        "CREDENTIALS",
        "GOOGLE_CREDENTIAL",
        "JWT",
        "GITHUB_PAT",
        "NPM_AUTH",
        "npmAuth",
        "_auth",
        "API_KEY",
        "apiKey",
        "APIKey",
        "STRIPE_API_KEY_2",
        "AWS_ACCESS_KEY_ID",
        "private_key",
        "SIGNING_KEY",
        "ENCRYPTION_KEY",
        "DEPLOY_KEY",
        "SERVICE_KEY",
        "SUPABASE_SERVICE_ROLE_KEY",
        "MASTER_KEY",
        "SSH_KEY",
        "HMAC_KEY",
        "TOKEN2",
        "AUTH",
    ],
)
def test_names_of_secrets_are_found_by_whole_words(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "AUTHOR",
        "SITE_AUTHOR",
        "AUTH_PROVIDER",
        "OAUTH_URL",
        "NPM_CONFIG_LOGLEVEL",
        "PATH",
        "COMPASS",
        "BYPASS_CACHE",
        "KEY",
        "PUBLIC_KEY",
        "MAP_KEY",
        "KEYBOARD",
        "PASSENGER",
        "TOKENIZER",
        "MAX_TOKENS",
        "SECRETARY",
        "PATTERN",
        "API_URL_KEY",
        "PASSWORDLESS",
        "KEY_API",
        "X",
    ],
)
def test_ordinary_names_are_not_secrets(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize("value", ["A-B", "1A", "a b", "A,$B", "A=1"])
def test_malformed_redact_vars_are_a_problem(value: str) -> None:
    assert only_problem(REDACT_VARS=value).startswith("REDACT_VARS is ")


@pytest.mark.parametrize("password", ["a#bcdef", "a/bcdef", "a?bcdef", "12/34ab", "p@ss/word", "x:1#y"])
def test_redis_passwords_that_need_encoding_are_explained(password: str) -> None:
    problem = only_problem(REDIS_URI=f"redis://default:{password}@cache:6379/0")

    assert "# as %23" in problem
    assert "/ as %2F" in problem
    assert password not in problem


def test_the_refused_redis_option_is_named() -> None:
    assert "without the option ssl_keyfil;" in only_problem(REDIS_URI="rediss://cache:6379/0?ssl_keyfil=/x")


# --- any environment ---

VALUES = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\0"), max_size=40),
    st.binary(max_size=20).map(lambda data: data.replace(b"\0", b"").decode("utf-8", "surrogateescape")),
    st.text("htps:/@[]%?#&={}slug.-0x \n", max_size=40),
    st.sampled_from(
        [*REQUIRED.values(), "https://h:1:2/x", "redis://h?a=b=c", "https://[v1.x]/x", "https://ⅷ℀/x", "9" * 5000]
    ),
)


@given(
    st.dictionaries(
        st.sampled_from([*SHOWN_NAMES, *SECRET_NAMES, "AWS_PROFILE", "https_proxy", "AWS_CONFIG_FILE", "HOME"]), VALUES
    ),
    st.dictionaries(
        st.sampled_from(["BUILD_ENV_", "INSTALL_ENV_"]).flatmap(lambda p: VALUES.map(lambda v: p + v)), VALUES
    ),
    st.booleans(),
)
def test_any_environment_gives_settings_or_a_configuration_error(
    environment: dict[str, str], named: dict[str, str], is_complete: bool
) -> None:
    try:
        found: Settings | None = read_settings({**(REQUIRED if is_complete else {}), **environment, **named})
    except ConfigurationError as error:
        found, named_problems = None, error.problems
    if found is None:
        assert all(problem.isprintable() for problem in named_problems)
    else:
        assert found.repository.scheme in {"https", "http", "ssh", "file"}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("git@github.com:owner/name.git", "git@github.com:owner/name.git"),
        ("ftp://git@github.com/owner/name", "ftp://git@github.com/owner/name"),
        ("git@secret@github.com:owner/name", "[redacted]@github.com:owner/name"),
        ("sEcReTtOkEn@github.com:owner/name", "[redacted]@github.com:owner/name"),
        ("git:password@github.com:owner/name", "[redacted]@github.com:owner/name"),
    ],
)
def test_the_user_git_of_an_address_is_no_secret(url: str, shown: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read_settings({"REPO_URL": url})

    assert f"REPO_URL is '{shown}'" in str(raised.value) or f'REPO_URL is "{shown}"' in str(raised.value)
