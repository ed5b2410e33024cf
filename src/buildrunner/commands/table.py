"""The table of commands: the command line, `--help`, suggestions and completion are derived from it.

To add a command, add one record to `COMMANDS`. `function` is imported when the command is chosen, and called as
`function(environment, **arguments)`: each argument by the name of its option (`--build` → `build`) or, for a positional
one, its metavar in lower case. It returns the exit code and may be a coroutine function. ConfigurationError ends the
command with 2. Options that override variables follow from `config.variables`: list the command there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from buildrunner.config import kinds
from buildrunner.config.kinds import Kind

# Validated by the command, together with its variables.
_ID = Kind(lambda text: text, "text", "ID")
_PORT = kinds.number(0, 65535)


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a command that is not a variable."""

    name: str  # `--build` is an option, `SLUG` a positional argument
    meaning: str
    kind: Kind | None = None  # an option without one is a flag
    default: Any = None
    default_words: str = ""  # how people read the default, where it is no value
    optional: bool = False  # of a positional argument
    path: Literal["", "folder"] = ""  # of this machine: completed, and mounted where the command runs in a container
    parameter: str = ""  # of the function, where it is not the name of the argument
    is_repeated: bool = False  # of an option: the function gets a list

    @property
    def destination(self) -> str:
        """The parameter of the command's function."""
        return self.parameter or self.name.strip("-").replace("-", "_").lower()


@dataclass(frozen=True, slots=True)
class Command:
    """One command."""

    name: str
    summary: str  # one line, for the list of commands
    description: str
    examples: Sequence[tuple[str, str]]  # what one wants, and the command line
    function: str  # module:name
    arguments: Sequence[Argument] = ()
    handles_signals: bool = (
        False  # the function gets `early_signals`, those that came before; else they end the process
    )
    docker: Sequence[str] = ()  # more options of `docker run` where this machine cannot run the command
    image: str = "buildrunner"  # that has what the command needs; docs/dev.md says how it is built
    listens: int = 0  # number of ports, from --port on, that are published there


COMMANDS = (
    Command(
        "run",
        "run one build (the default without a command)",
        "Clone, install, build and upload one repository. Each option overrides the variable of the same name.",
        (
            (
                "Build a branch",
                "buildrunner run --repo-url https://github.com/owner/name --repo-ref main --slug my-site",
            ),
            ("Allow a slow build", "buildrunner run --build-timeout 45m --log-max-bytes 256MiB"),
        ),
        "buildrunner.commands.run:run",
        handles_signals=True,
    ),
    Command(
        "publish",
        "publish a folder that is already built",
        "Upload a folder as a build does: only what changed, pages last. Each option overrides the variable of the same name.",
        (("Publish the folder dist", "buildrunner publish dist --slug my-site --aws-bucket-name my-sites"),),
        "buildrunner.commands.run:publish",
        (
            Argument(
                "DIR",
                "Folder that becomes the site, with index.html at its top.",
                kinds.TEXT,
                path="folder",
                parameter="folder",
            ),
        ),
        handles_signals=True,
    ),
    Command(
        "dev",
        "run the same build on this machine and serve the site",
        "Build a folder as it is now, committed or not, or a URL. buildrunner starts the servers that the build needs. Its"
        " page shows the build live.",
        (
            ("Build the folder you are in", "buildrunner dev"),
            ("Build it again whenever a file changes, and open the page", "buildrunner dev --watch --open"),
            ("Build a branch of a public repository", "buildrunner dev https://github.com/owner/name --ref next"),
        ),
        "buildrunner.commands.dev.start:dev",
        (
            Argument("REPO", "Folder or URL.", kinds.TEXT, ".", "this folder", optional=True, path="folder"),
            Argument("--watch", "Build again when files change that git does not ignore."),
            Argument("--open", "Open the build page in the browser.", parameter="open_browser"),
            Argument(
                "--port",
                "Port of the build page; 0 picks a free one. The site is on the next port.",
                _PORT,
                default_words="the first of 4400, 4402, … that is free",
            ),
            Argument(
                "--ref",
                "Branch, tag or commit of the repository.",
                kinds.GIT_REF,
                default_words="of a folder what lies there, of a URL the default branch",
            ),
        ),
        handles_signals=True,
        docker=("--interactive", "--tty", "--volume", "buildrunner-cache:/root/.cache"),
        image="buildrunner-dev",
        listens=2,
    ),
    Command(
        "plan",
        "show what would be built",
        "Show what a build of a folder or URL would do, and the file or variable behind each choice. Nothing of the repository"
        " runs.",
        (
            ("Look at the folder you are in", "buildrunner plan"),
            (
                "Try another folder of a repository",
                "buildrunner plan https://github.com/owner/name --root-dir apps/web",
            ),
            ("Read it with a program", "buildrunner plan --json | jq .output.folder"),
        ),
        "buildrunner.commands.plan:plan",
        (
            Argument("REPO", "Folder or URL.", kinds.TEXT, ".", "this folder", optional=True, path="folder"),
            Argument("--json", "Print one JSON object.", parameter="as_json"),
        ),
        handles_signals=True,
    ),
    Command(
        "logs",
        "print the log of a build",
        "Print a build's log from its first line, from Redis or, when it is gone there, from the archive in S3. Where REDIS_URI is"
        " not set, it is the log of the newest `buildrunner dev` on this machine.",
        (
            ("Show the build of the newest `buildrunner dev`", "buildrunner logs --follow"),
            ("Show the newest build", "buildrunner logs my-site"),
            ("Wait for a build and exit with its exit code", "buildrunner logs my-site --build 20260102-1 --follow"),
            ("Show its last event", "buildrunner logs my-site --json | tail -1 | jq"),
        ),
        "buildrunner.commands.logs:show_log",
        (
            Argument(
                "SLUG",
                "Id of the deployment.",
                kinds.TEXT,
                optional=True,
                default_words="that of the newest dev on this machine",
            ),
            Argument("--build", "BUILD_ID of the build, which is waited for.", _ID, default_words="the newest"),
            Argument("--follow", "Continue until the build ends, and exit with its exit code."),
            Argument("--json", "Print the events unchanged, one per line.", parameter="as_json"),
        ),
    ),
    Command(
        "submit",
        "run a build on Amazon ECS or AWS Batch and follow it",
        "Start one build as a task of Amazon ECS, or as a job of AWS Batch if BATCH_JOB_QUEUE is set. Its log is printed from the"
        " first line, and the exit code is the build's. Ctrl-C asks whether to stop the build; again, it stops following.",
        (
            ("Build a branch", "buildrunner submit https://github.com/owner/name my-site --ref main"),
            (
                "Set a variable of the build",
                "buildrunner submit https://github.com/owner/name my-site --env BUILD_ENV_VITE_API=https://api.example.com",
            ),
            ("Start it and leave", "buildrunner submit https://github.com/owner/name my-site --detach"),
        ),
        "buildrunner.commands.submit.command:submit",
        (
            Argument("REPO_URL", "Address of the repository to build.", kinds.TEXT),
            Argument("SLUG", "Id of the deployment.", kinds.TEXT),
            Argument("--ref", "Branch, tag or full commit id.", kinds.TEXT, default_words="the default branch"),
            Argument(
                "--env",
                "Variable of the build, NAME=VALUE; can be given several times. Secrets are refused.",
                Kind(lambda text: text, "NAME=VALUE", "NAME=VALUE"),
                parameter="variables",
                is_repeated=True,
            ),
            Argument("--share", "Whose share of a fair-share queue of AWS Batch is used.", kinds.SHARE),
            Argument("--detach", "Print the BUILD_ID alone, and exit once the build is submitted."),
        ),
        handles_signals=True,
    ),
    Command(
        "serve",
        "serve build pages and the log API",
        "Serve pages that show builds live, and their API, from Redis and the archive in S3.",
        (
            ("Serve to this machine", "buildrunner serve --port 8080"),
            ("Serve to everyone with a token", "GATEWAY_SECRET=… buildrunner serve --host 0.0.0.0"),
        ),
        "buildrunner.gateway.serve:serve",
        (
            Argument("--host", "Address to listen on.", kinds.HOST, "127.0.0.1"),
            Argument("--port", "Port to listen on; 0 picks a free one.", _PORT, 8080),
        ),
        listens=1,
    ),
    Command(
        "sites",
        "serve published sites by the rules of their authors",
        "Serve sites from the bucket: http://SLUG.localhost:PORT/, and SLUG.example.com with --domain example.com.",
        (
            ("Serve to this machine", "buildrunner sites --port 8081"),
            ("Serve below a domain", "buildrunner sites --host 0.0.0.0 --domain example.com"),
        ),
        "buildrunner.sites.serve:serve",
        (
            Argument("--host", "Address to listen on.", kinds.HOST, "127.0.0.1"),
            Argument("--port", "Port to listen on; 0 picks a free one.", _PORT, 8080),
            Argument("--domain", "Domain below which the sites are.", kinds.DOMAIN, default_words="localhost alone"),
        ),
        listens=1,
    ),
    Command(
        "token",
        "print a viewer token for the gateway",
        "Print a token that shows the builds of a site. It is signed with GATEWAY_SECRET.",
        (("Make a token for one day", "buildrunner token my-site --ttl 24h"),),
        "buildrunner.gateway.tokens:print_token",
        (
            Argument("SLUG", "Site whose builds it shows; '*' for every site.", kinds.TEXT),
            Argument("--ttl", "How long it is valid.", kinds.duration(1, 10**9), 3600, parameter="seconds"),
        ),
    ),
    Command(
        "doctor",
        "check what builds need, and say how to fix it",
        "Try git, Node.js, npm, Redis, the buckets and each permission for real, with keys that are removed again. REPO_URL and"
        " SLUG may be missing.",
        (
            ("Check this machine and its variables", "buildrunner doctor"),
            ("Check them in a program", "buildrunner doctor --json | jq -r .status"),
        ),
        "buildrunner.commands.doctor:doctor",
        (Argument("--json", "Print one JSON object.", parameter="as_json"),),
        handles_signals=True,
    ),
    Command(
        "completion",
        "print a completion script for a shell",
        "Print a script that completes commands, options and their values with the Tab key.",
        (
            ("bash", "buildrunner completion bash >~/.local/share/bash-completion/completions/buildrunner"),
            ("zsh, for a folder of $fpath", "buildrunner completion zsh >~/.zfunc/_buildrunner"),
            ("fish", "buildrunner completion fish >~/.config/fish/completions/buildrunner.fish"),
        ),
        "buildrunner.commands.completion:print_completion",
        (Argument("SHELL", "Shell that you use.", kinds.choice("bash", "zsh", "fish")),),
    ),
)


def find_command(name: str) -> Command | None:
    """Return the command of that name."""
    return next((command for command in COMMANDS if command.name == name), None)
