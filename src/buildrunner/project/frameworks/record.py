"""Define the record of a framework, and the result of detecting one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from buildrunner.errors import BuildFailed
from buildrunner.project.frameworks.app import App
from buildrunner.project.scripts import ScriptCommand


@dataclass(frozen=True, slots=True)
class DefaultCommand:
    """The build command of an app without a build script, if the app has one of the files."""

    files: tuple[str, ...]
    command: str
    content: str = ""  # pattern that one of the files has to match


@dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """A framework, a site generator or a bundler."""

    name: str  # as in messages

    # Detection: by a command of the build, or else by a package
    packages: tuple[str, ...] = ()
    commands: str  # pattern of its build commands
    needs_package: bool = False  # whether other frameworks use the same commands

    # Output
    output: tuple[str, ...] = ()  # default output folders, likeliest first
    config_files: tuple[str, ...] = ()  # without their suffix
    output_keys: tuple[str, ...] = ()  # keys in these files for the output folder
    output_options: tuple[str, ...] = ()  # command-line options for the output folder
    browser_folder: str = ""  # subfolder of the output folder for browsers
    root_output: str = ""  # output folder relative to a root that can be configured
    writes_below: bool = False  # whether it writes to a subfolder of the site, such as public/build
    find_output: Callable[[App, Sequence[ScriptCommand]], list[str]] | None = None  # finds more output folders
    output_subfolders: bool = (
        False  # whether subfolders of the output are sites, so that dist/about is not a page of one
    )

    # Kind of output: bundlers also build libraries; showcases present the components of a library
    kind: Literal["site", "bundler", "showcase"] = "site"
    writes_page: bool = False  # whether its build command writes an index.html

    # Server rendering
    check_server: Callable[[App, DetectedFramework], Mapping[str, object]] | None = (
        None  # returns changes of the detection
    )
    prerender_hint: str = ""  # what to do if the output has no page because a server renders it

    # Suggestions
    default_commands: tuple[DefaultCommand, ...] = ()
    suggested_command: str = ""  # build script for a hint; it may need more options
    base_setting: str = ""  # completes "Set … to /": the setting for the address of the site
    openssl_3: tuple[tuple[str, int], ...] = ()  # packages, and the first major version that supports OpenSSL 3

    def has_package(self, packages: Mapping[str, str]) -> bool:
        return any(name in packages for name in self.packages)


@dataclass(frozen=True, slots=True)
class DetectedFramework:
    """The framework of an app, as its files show it."""

    record: Framework | None = None  # None if no framework is recognized
    folders: tuple[str, ...] = ()  # possible output folders, relative to the app; configured ones first
    folder_source: str = ""  # source of the first of them, for messages
    needs_server: tuple[str, str] | None = None  # reason and hint if the output needs a server
    certain: bool = False  # whether it certainly needs a server, so that the build is not run
    server_files: tuple[str, ...] = ()  # files that only such an output has
    # Replaces the build script: the name of another script, or a shell command that finds programs in node_modules/.bin.
    build_instead: str | None = None
    note: str | None = None  # for the log

    @property
    def name(self) -> str | None:
        return self.record.name if self.record else None

    def refusal(self) -> BuildFailed:
        """Return the error for an app that needs a server."""
        assert self.needs_server
        return BuildFailed("build", *self.needs_server, kind="framework-needs-server")
