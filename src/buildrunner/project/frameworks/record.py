"""The shape of what is known of a framework, and of what detection finds out about an app."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from buildrunner.errors import BuildFailed
from buildrunner.project.frameworks.app import App
from buildrunner.project.scripts import ScriptCommand


@dataclass(frozen=True, slots=True)
class DefaultCommand:
    """What builds an app that has no build script, where one of the files is there."""

    files: tuple[str, ...]
    command: str
    content: str = ""  # a pattern that the file must have


@dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """A framework, a site generator or a bundler."""

    name: str  # as people write it

    # How it is recognized: by a command of the build, else by a package
    packages: tuple[str, ...] = ()
    commands: str  # a pattern of the commands that build with it
    needs_package: bool = False  # the commands are another framework's, too

    # Output
    output: tuple[str, ...] = ()  # by default, the likeliest first
    config_files: tuple[str, ...] = ()  # without the suffix
    output_keys: tuple[str, ...] = ()  # keys in these files whose value is the output folder
    output_options: tuple[str, ...] = ()  # the same on the command line
    browser_folder: str = ""  # the folder of the output folder that is for browsers
    root_output: str = ""  # the output folder, relative to a root that its configuration can move
    writes_below: bool = False  # into a folder of the site in the output folder: `public/build`
    find_output: Callable[[App, Sequence[ScriptCommand]], list[str]] | None = None  # what the fields above cannot say
    output_subfolders: bool = (
        False  # whether each of several sites has its own folder, so that `dist/about` is not a page
    )

    # What it makes: bundlers make scripts for others to import as often as sites, showcases show the parts of a library
    kind: Literal["site", "bundler", "showcase"] = "site"
    writes_page: bool = False  # whether its bundler's command writes the page into the output folder

    # What can be published of it
    check_server: Callable[[App, DetectedFramework], Mapping[str, object]] | None = None  # changes of what was detected
    prerender_hint: str = ""  # what to do where the output has no page, as a server renders it

    # Its settings, for people
    default_commands: tuple[DefaultCommand, ...] = ()
    suggested_command: str = ""  # a build script to add, where the command may need more options
    base_setting: str = ""  # completes "Set … to /": the setting for the address of the site
    openssl_3: tuple[tuple[str, int], ...] = ()  # packages, and the first major version that runs with OpenSSL 3

    def has_package(self, packages: Mapping[str, str]) -> bool:
        return any(name in packages for name in self.packages)


@dataclass(frozen=True, slots=True)
class DetectedFramework:
    """The framework of an app, as far as its files show."""

    record: Framework | None = None  # None when none is recognized
    folders: tuple[str, ...] = ()  # where its output can be, relative to the app; its own configuration's first
    folder_source: str = ""  # what names the first of them, for people
    needs_server: tuple[str, str] | None = None  # reason and hint, for an output that only a server can show
    certain: bool = False  # nothing that could be published can come of this build: no need to run it
    server_files: tuple[str, ...] = ()  # that only such an output has
    # What to run instead of the build script: the name of another script, or else a line for a shell that finds
    # node_modules/.bin in its PATH.
    build_instead: str | None = None
    note: str | None = None  # sentence for the log

    @property
    def name(self) -> str | None:
        return self.record.name if self.record else None

    def refusal(self) -> BuildFailed:
        """Return the error that explains why nothing of this app can be published."""
        assert self.needs_server
        return BuildFailed("build", *self.needs_server, kind="framework-needs-server")
