"""The table of environment variables.

Validation, the options of the command line, `--help`, completion and docs/configuration.md are derived from it.

To add a variable, add one record to `VARIABLES`, below those of its group; the groups are shown in the order in which they
first appear. `kind` is one of `kinds`, or a new one there. `commands` lists who reads the variable: each of them validates
it and has its option. Then run `make docs`. A command reads its variables with `environment.read_variables`; what a build
needs becomes a field of `settings.Settings`.
"""

from __future__ import annotations

from buildrunner.config import kinds
from buildrunner.config.addresses import (
    parse_api_root,
    parse_http_url,
    parse_link_template,
    parse_origins,
    parse_redis_uri,
)
from buildrunner.config.kinds import Kind
from buildrunner.config.variable import Variable

BUILD = ("run",)
PLANNING = ("run", "plan")
PUBLISHING = ("run", "publish")
READING_S3 = ("run", "publish", "logs", "submit", "serve", "sites", "doctor")
READING_REDIS = ("run", "publish", "logs", "submit", "serve", "doctor")
SUBMITTING = ("submit",)
FLEET = ("submit", "serve")

_REDIS_URI = Kind(parse_redis_uri, "redis://…, rediss://… or unix://…", "URI", is_url=True)
_HTTP_URL = Kind(parse_http_url, "an http:// or https:// address", "URL", is_url=True)
_API_ROOT = Kind(
    parse_api_root, "an http:// or https:// address without user, password, query and fragment", "URL", is_url=True
)
_ORIGINS = Kind(
    parse_origins,
    "a comma-separated list of origins such as https://app.example.com, without a path",
    "LIST",
    format=",".join,
)


def _link(*placeholders: str) -> Kind:
    optional = "".join(f" and may contain {{{name}}}" for name in placeholders[1:])
    rule = f"an http:// or https:// address without user and password, which contains {{{placeholders[0]}}}{optional}"
    return Kind(lambda text: parse_link_template(text, placeholders), rule, "TEMPLATE")


VARIABLES: tuple[Variable, ...] = (
    # --- Repository
    Variable(
        "REPO_URL",
        "Repository",
        "Address of the repository to build.",
        Kind(lambda text: text, "an address, https://…", "URL", is_url=True),  # parsed with others by `settings`
        (*BUILD, "doctor"),
        required=("run",),
        aliases=("GIT_REPOSITORY__URL",),
        example="https://github.com/owner/name",
    ),
    Variable(
        "REPO_REF",
        "Repository",
        "Branch, tag or full commit id.",
        kinds.GIT_REF,
        (*PLANNING, "doctor"),
        default_words="the default branch",
        example="main",
    ),
    Variable(
        "ROOT_DIR",
        "Repository",
        "Folder of the app in the repository.",
        kinds.folder("the repository"),
        PLANNING,
        default_words="the repository root, or the one folder found to hold the app",
        example="apps/web",
    ),
    Variable(
        "GIT_TOKEN",
        "Repository",
        "Token for a private repository. It is sent to the scheme, host and port of `REPO_URL` and nowhere else.",
        kinds.matching(r"[\x21-\x7e]+", "a token without spaces or control characters"),
        (*PLANNING, "doctor"),
        secret=True,
    ),
    Variable(
        "GIT_SUBMODULES",
        "Repository",
        "Whether submodules are cloned too.",
        kinds.switch("on", "off"),
        PLANNING,
        default=True,
    ),
    Variable(
        "GIT_HISTORY",
        "Repository",
        "History and tags for builds that ask git for them. `auto` fetches them when the repository shows that it uses them;"
        " otherwise one commit is cloned.",
        kinds.choice("auto", "full", "none"),
        BUILD,
        default="auto",
    ),
    Variable(
        "REPO_ALLOWED_SCHEMES",
        "Repository",
        "Allowed schemes of `REPO_URL`, comma-separated: `https`, `http`, `ssh`, `file`. The image has no ssh client.",
        kinds.SCHEMES,
        (*PLANNING, "doctor"),
        default=frozenset({"https"}),
        example="https,ssh",
    ),
    # --- Build
    Variable(
        "BUILD_ID",
        "Build",
        "Id of this build, 1 to 64 of `A-Za-z0-9_-`. Set it to know which build a viewer is looking at.",
        kinds.BUILD_ID,
        PUBLISHING,
        default_words="generated, sortable by time",
        example="20260102-1",
    ),
    Variable(
        "INSTALL_COMMAND",
        "Build",
        "Shell command that installs dependencies, run in the app's folder.",
        kinds.COMMAND,
        PLANNING,
        default_words="detected, such as `npm ci`",
        example="npm ci --legacy-peer-deps",
    ),
    Variable(
        "BUILD_COMMAND",
        "Build",
        "Shell command that builds the site, run in the app's folder.",
        kinds.COMMAND,
        PLANNING,
        default_words="detected, such as `npm run build`",
        example="npm run build:production",
    ),
    Variable(
        "OUTPUT_DIR",
        "Build",
        "Folder that the build writes the site to, inside the app's folder.",
        kinds.folder("the app's folder"),
        PLANNING,
        default_words="detected",
        example="dist",
    ),
    Variable(
        "NODE_VERSION",
        "Build",
        "Version or range of Node, such as `22`, `>=18 <21` or `lts/iron`.",
        kinds.NODE_VERSION,
        PLANNING,
        default_words="what the repository names, else the installed version",
        example="22",
    ),
    Variable(
        "BUILD_ENV_<NAME>",
        "Build",
        "Sets `<NAME>` in the environment of the build.",
        kinds.TEXT,
        BUILD,
        secret=True,
        example="BUILD_ENV_VITE_API_URL=https://api.example.com",
    ),
    Variable(
        "INSTALL_ENV_<NAME>",
        "Build",
        "Sets `<NAME>` in the environment of the install; it is present and empty in the build. Install scripts can read it:"
        " use a token that can only read.",
        kinds.TEXT,
        BUILD,
        secret=True,
        example="INSTALL_ENV_NPM_TOKEN=npm_…",
    ),
    Variable(
        "STRICT_LOCKFILE",
        "Build",
        "`1`: the build fails when the lockfile is missing or does not match `package.json`.",
        kinds.switch("1", "0"),
        PLANNING,
        default=False,
    ),
    Variable(
        "DEPENDENCY_CACHE",
        "Build",
        "Where installed dependencies are cached between builds of one `CACHE_SCOPE`: `s3`, `off`, or a folder of this machine.",
        kinds.DEPENDENCY_CACHE,
        (*PLANNING, "doctor"),
        default="s3",
    ),
    Variable(
        "CACHE_SCOPE",
        "Build",
        "Name of the builds that share the dependency cache, written like a slug.",
        kinds.SLUG,
        (*PLANNING, "doctor"),
        default_words="the slug",
        example="customer-7",
    ),
    # --- Site
    Variable(
        "SLUG",
        "Site",
        "Id of the deployment: 1 to 63 of `a-z 0-9 -`, not starting or ending with `-`.",
        kinds.SLUG,
        (*PUBLISHING, "doctor"),
        required=("run", "publish"),
        aliases=("PROJECT_ID",),
        example="my-site",
    ),
    Variable(
        "SITE_URL",
        "Site",
        "Address of the published site: `url` in the result, and links. It contains `{slug}`, unless it is on this machine.",
        _link("slug"),
        ("run", "publish", "serve"),
        example="https://{slug}.example.com",
    ),
    Variable(
        "BUILD_URL",
        "Site",
        "Address of a build's page, for webhooks, commit statuses and `submit`. It contains `{slug}` and usually `{build}`.",
        _link("slug", "build"),
        ("run", "publish", "submit"),
        example="https://builds.example.com/sites/{slug}/builds/{build}",
    ),
    Variable(
        "S3_KEY_PREFIX",
        "Site",
        "Where the site's objects go in the bucket. It contains `{slug}` as a whole path part and ends with `/`.",
        kinds.KEY_PREFIX,
        ("run", "publish", "sites", "doctor"),
        default="{slug}/",
        example="__outputs/{slug}/",
    ),
    Variable(
        "ASSET_GRACE",
        "Site",
        "How long a hashed asset stays after the first deployment without it; `0` removes it with that deployment.",
        kinds.duration(0, 10**9),
        PUBLISHING,
        default=604800,
    ),
    Variable(
        "ROBOTS",
        "Site",
        "`noindex`: the site is served with `X-Robots-Tag: noindex`, which suits previews.",
        kinds.choice("noindex"),
        PUBLISHING,
        default_words="none",
        example="noindex",
    ),
    Variable(
        "STRICT_REFERENCES",
        "Site",
        "`1`: the build fails when a page refers to something that the site does not have.",
        kinds.switch("1", "0"),
        PUBLISHING,
        default=False,
    ),
    Variable(
        "SITE_MAX_FILES",
        "Site",
        "Most files that a site may have. A larger site fails the build.",
        kinds.number(1, 10**9),
        PUBLISHING,
        default=100_000,
    ),
    Variable(
        "SITE_MAX_BYTES",
        "Site",
        "Largest size of a site, all files together.",
        kinds.size(1, 10**15),
        PUBLISHING,
        default=10 * 2**30,
    ),
    Variable(
        "SITE_MAX_FILE_BYTES",
        "Site",
        "Largest size of one file of a site.",
        kinds.size(1, 5 * 2**40),  # S3's objects are 5 TiB at most
        PUBLISHING,
        default=2**30,
    ),
    # --- S3
    Variable(
        "AWS_BUCKET_NAME",
        "S3",
        "Bucket for the site.",
        kinds.BUCKET,
        READING_S3,
        required=("run", "publish", "sites"),
        example="my-sites",
    ),
    Variable(
        "STATE_BUCKET_NAME",
        "S3",
        "Bucket for logs, manifests and caches. Set it when the bucket of the sites is public.",
        kinds.BUCKET,
        READING_S3,
        default_words="`AWS_BUCKET_NAME`",
        example="my-sites-state",
    ),
    Variable(
        "AWS_REGION",
        "S3",
        "Region of the buckets.",
        kinds.REGION,
        READING_S3,
        default_words="the region in the AWS configuration, else required",
        aliases=("AWS_DEFAULT_REGION",),
        example="eu-central-1",
    ),
    Variable(
        "AWS_ACCESS_KEY_ID",
        "S3",
        "Access key. Without one, AWS's default chain applies: profiles, then the ECS task role.",
        kinds.CREDENTIAL,
        READING_S3,
        default_words="AWS's default chain",
        secret=True,
    ),
    Variable(
        "AWS_SECRET_ACCESS_KEY",
        "S3",
        "Secret key of `AWS_ACCESS_KEY_ID`.",
        kinds.CREDENTIAL,
        READING_S3,
        default_words="AWS's default chain",
        secret=True,
    ),
    Variable(
        "AWS_SESSION_TOKEN",
        "S3",
        "Session token of temporary keys.",
        kinds.CREDENTIAL,
        READING_S3,
        default_words="AWS's default chain",
        secret=True,
    ),
    Variable(
        "AWS_ENDPOINT_URL_S3",
        "S3",
        "Address of an S3-compatible server. It is used with path-style addresses.",
        _HTTP_URL,
        READING_S3,
        default_words="AWS",
        aliases=("AWS_ENDPOINT_URL",),
        example="https://s3.example.com",
    ),
    Variable(
        "UPLOAD_CONCURRENCY",
        "S3",
        "Most objects that are uploaded at the same time.",
        kinds.number(1, 1024),
        PUBLISHING,
        default=64,
    ),
    Variable(
        "S3_FAST_PUT",
        "S3",
        "Whether small objects are sent over connections of buildrunner's own, at an eighth of the CPU time. `off` sends all"
        " of them by the AWS client.",
        kinds.switch("on", "off"),
        PUBLISHING,
        default=True,
    ),
    # --- Log
    Variable(
        "REDIS_URI",
        "Log",
        "Redis for the live log: `redis://…`, `rediss://…` or `unix://…`.",
        _REDIS_URI,
        READING_REDIS,
        required=("run", "logs", "serve"),
        secret=True,
        example="redis://localhost:6379",
    ),
    Variable(
        "LOG_FORMAT",
        "Log",
        "Messages on the channel: `text` is the line, `json` the event.",
        kinds.choice("text", "json"),
        PUBLISHING,
        default="text",
    ),
    Variable(
        "LOG_CHANNEL",
        "Log",
        "Pub/sub channel of the lines. It contains `{slug}`.",
        kinds.TEMPLATE,
        (*PUBLISHING, "doctor"),
        default="logs:{slug}",
    ),
    Variable(
        "EVENT_STREAM",
        "Log",
        "Redis stream of the events. It contains `{slug}`.",
        kinds.TEMPLATE,
        READING_REDIS,
        default="events:{slug}",
    ),
    Variable(
        "LOG_TTL",
        "Log",
        "How long the stream is stored after its last event.",
        kinds.duration(1, 10**9),
        PUBLISHING,
        default=86400,
    ),
    Variable(
        "LOG_MAX_BYTES",
        "Log",
        "Most events that are stored of one build's output.",
        kinds.size(1, 10**12),
        (*PUBLISHING, "doctor"),
        default=64 * 2**20,
    ),
    Variable(
        "CONSOLE_FORMAT",
        "Log",
        "What the process itself prints.",
        kinds.choice("auto", "text", "json"),
        PUBLISHING,
        default="auto",
    ),
    Variable(
        "REDACT_VARS",
        "Log",
        "More names of secrets, without `BUILD_ENV_` or `INSTALL_ENV_`; comma-separated, `*` stands for any text.",
        kinds.NAME_PATTERNS,
        BUILD,
        default_words="none",
        example="LICENSE_*,MY_CODE",
    ),
    # --- Notifications
    Variable(
        "WEBHOOK_URL",
        "Notifications",
        "Address that receives a webhook when a build starts and when it ends. Set it together with `WEBHOOK_SECRET`.",
        _HTTP_URL,
        PUBLISHING,
        default_words="none",
        secret=True,
        example="https://hooks.example.com/builds",
    ),
    Variable(
        "WEBHOOK_SECRET",
        "Notifications",
        "Key that signs webhooks: `whsec_` and base64 of 24 to 64 bytes.",
        kinds.WEBHOOK_SECRET,
        PUBLISHING,
        default_words="none",
        secret=True,
    ),
    Variable(
        "WEBHOOK_ALLOW_PRIVATE",
        "Notifications",
        "`1`: the image may send webhooks to private, loopback and link-local addresses.",
        kinds.switch("1", "0"),
        PUBLISHING,
        default=False,
    ),
    Variable(
        "COMMIT_STATUS_TOKEN",
        "Notifications",
        "Token that may write commit statuses of the repository. With it, commits show how their build ended.",
        kinds.CREDENTIAL,
        BUILD,
        default_words="none",
        secret=True,
    ),
    Variable(
        "COMMIT_STATUS",
        "Notifications",
        "Kind of the host that shows the commit statuses.",
        kinds.choice("github", "gitlab", "gitea"),
        BUILD,
        default_words="detected for github.com, gitlab.com, gitea.com and codeberg.org",
        example="gitlab",
    ),
    Variable(
        "COMMIT_STATUS_URL",
        "Notifications",
        "Root of the API of another host than the well-known ones.",
        _API_ROOT,
        BUILD,
        default_words="the API of the well-known host",
        example="https://git.example.com/api/v4",
    ),
    # --- Observability
    Variable(
        "SUMMARY",
        "Observability",
        "Prints a last line about the whole build: `json`, or `emf` for metrics in CloudWatch.",
        kinds.choice("off", "json", "emf"),
        PUBLISHING,
        default="off",
    ),
    Variable(
        "TRACEPARENT",
        "Observability",
        "W3C trace context of the build, for its commands, webhooks and summary.",
        kinds.TRACEPARENT,
        PUBLISHING,
        default_words="none",
        example="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ),
    # --- Time limits
    Variable(
        "CLONE_TIMEOUT", "Time limits", "Time limit of the clone.", kinds.time_limit(86400), PLANNING, default=120
    ),
    Variable(
        "INSTALL_TIMEOUT", "Time limits", "Time limit of the install.", kinds.time_limit(86400), BUILD, default=600
    ),
    Variable(
        "BUILD_TIMEOUT",
        "Time limits",
        "Time limit of the build script.",
        kinds.time_limit(86400),
        PLANNING,
        default=1200,
    ),
    Variable(
        "UPLOAD_TIMEOUT", "Time limits", "Time limit of the upload.", kinds.time_limit(86400), PUBLISHING, default=600
    ),
    # --- Fleet
    Variable(
        "ECS_CLUSTER",
        "Fleet",
        "Cluster of Amazon ECS that builds run in. With it, `serve` shows builds that are queued or starting.",
        kinds.AWS_NAME,
        FLEET,
        default="default",
        default_words="`default` for `submit`, none for `serve`",
        example="builds",
    ),
    Variable(
        "ECS_TASK_DEFINITION",
        "Fleet",
        "Task definition of a build: its family, which stands for the newest revision, or `family:revision`.",
        kinds.AWS_NAME,
        SUBMITTING,
        default_words="required unless `BATCH_JOB_QUEUE` is set",
        example="buildrunner",
    ),
    Variable(
        "ECS_SUBNETS",
        "Fleet",
        "Subnets that builds run in, comma-separated.",
        kinds.AWS_NAMES,
        SUBMITTING,
        default=(),
        example="subnet-0a1b2c3d,subnet-4e5f6a7b",
    ),
    Variable(
        "ECS_SECURITY_GROUPS",
        "Fleet",
        "Security groups of builds, comma-separated.",
        kinds.AWS_NAMES,
        SUBMITTING,
        default=(),
        example="sg-0a1b2c3d",
    ),
    Variable(
        "ECS_CONTAINER",
        "Fleet",
        "Container of the task definition that runs the build.",
        kinds.AWS_NAME,
        SUBMITTING,
        default_words="the only one",
        example="buildrunner",
    ),
    Variable(
        "ECS_PUBLIC_IP",
        "Fleet",
        "Whether tasks get a public address, which they need in subnets without NAT.",
        kinds.switch("on", "off"),
        SUBMITTING,
        default=False,
    ),
    Variable(
        "ECS_CAPACITY",
        "Fleet",
        "`spot`: builds run on Fargate Spot, and on demand where it has no capacity.",
        kinds.choice("spot"),
        SUBMITTING,
        default_words="on demand",
        example="spot",
    ),
    Variable(
        "BATCH_JOB_QUEUE",
        "Fleet",
        "Job queue of AWS Batch. With it, `submit` puts builds there, where they wait for their turn, and doesn't use the `ECS_`"
        " variables. `serve` shows builds that are queued there.",
        kinds.AWS_NAME,
        FLEET,
        default_words="none",
        example="builds",
    ),
    Variable(
        "BATCH_JOB_DEFINITION",
        "Fleet",
        "Job definition of a build.",
        kinds.AWS_NAME,
        SUBMITTING,
        default_words="required with `BATCH_JOB_QUEUE`",
        example="buildrunner",
    ),
    # --- Gateway
    Variable(
        "GATEWAY_SECRET",
        "Gateway",
        "Key of viewer tokens, at least 32 bytes. With it, pages and API need a token.",
        # RFC 7518, section 3.2: a key of HS256 has at least as many bits as its hash.
        Kind(lambda text: text if len(text.encode(errors="surrogateescape")) >= 32 else None, "at least 32 bytes"),
        ("serve", "token"),
        required=("token",),
        secret=True,
    ),
    Variable(
        "GATEWAY_ORIGINS",
        "Gateway",
        "Origins that may embed build pages and call the API, comma-separated.",
        _ORIGINS,
        ("serve",),
        default=(),
        example="https://app.example.com",
    ),
)


def find_variable(name: str) -> Variable:
    """Return the variable of that name or alias.

    Raises:
        KeyError: there is none.

    """
    for variable in VARIABLES:
        if name == variable.name or name in variable.aliases or (variable.prefix and name.startswith(variable.prefix)):
            return variable
    raise KeyError(name)


def variables_of(command: str) -> tuple[Variable, ...]:
    """Return the variables that a command reads, in the order of the table."""
    return tuple(variable for variable in VARIABLES if command in variable.commands)
