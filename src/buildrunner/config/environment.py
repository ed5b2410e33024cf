"""Read the variables of a command; every problem is named in one message that shows no secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from buildrunner.config.kinds import NAME_PATTERNS
from buildrunner.config.secret_names import is_secret_name, matches_any
from buildrunner.config.variable import Variable
from buildrunner.config.variables import VARIABLES, find_variable
from buildrunner.errors import ConfigurationError
from buildrunner.redaction import REDACTED, Redactor

# Names that change how programs are loaded, and names that buildrunner sets itself.
_REFUSED_NAMES = re.compile(
    r"LD_.*|GLIBC_TUNABLES|GCONV_PATH|BASH_ENV|PATH|HOME|USER|LOGNAME|SHELL|PWD|TMPDIR|CI|SLUG|COMMIT_.*"
)
# Secrets that are not variables of the table.
_MORE_CREDENTIALS = (
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",  # whoever knows it can get the credentials of the role
)
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # but for TAB


class EnvironmentReader:
    """Read the variables of one command, and collect problems until `raise_problems`.

    A variable that is set but empty counts as not set: templates of task definitions cannot leave one out.
    """

    def __init__(self, environment: Mapping[str, str], command: str) -> None:
        self.problems: list[str] = []
        self.environment = environment
        self._command = command
        self._redactor: Redactor | None = None  # made for the first problem

    def read(self) -> dict[str, Any]:
        """Return the value of each variable of the table by its name.

        A variable that the command does not read, or that is malformed, has its default. Those of a family, such as
        `BUILD_ENV_<NAME>`, are dictionaries by the rest of their name.
        """
        return {variable.name: self._read(variable) for variable in VARIABLES}

    def read_as(self, name: str, text: str) -> Any:
        """Return the value that a variable would have; the text comes from elsewhere, such as a command line."""
        return self._parse(find_variable(name), name, text)

    def name_of(self, variable: Variable) -> str:
        """Return the name that a variable is set by, which may be an alias; its own name if it is not set."""
        names = (variable.name, *variable.aliases)
        return next((name for name in names if self.environment.get(name)), variable.name)

    def is_set(self, name: str) -> bool:
        """Return whether the command reads that variable, and it is set."""
        variable = find_variable(name)
        return self._command in variable.commands and bool(self.environment.get(self.name_of(variable)))

    def add_problem(self, name: str, rule: str, text: str) -> None:
        """Report that a variable's text breaks `rule`, which completes the sentence "NAME is …, but must be"."""
        self.problems.append(f"{name} is {self._show(name, text)}, but must be {rule}.")

    def raise_problems(self) -> None:
        """Raise ConfigurationError if there was a problem."""
        if self.problems:
            raise ConfigurationError(self.problems)

    def _read(self, variable: Variable) -> Any:
        taken = self._command in variable.commands
        if variable.prefix:
            return self.read_family(variable.prefix) if taken else {}
        name = self.name_of(variable)
        text = self.environment.get(name)
        if not taken or not text:
            if self._command in variable.required:
                suggestion = f", for example to {variable.example}" if variable.example else f" to {variable.kind.rule}"
                self.problems.append(f"{name} is missing. Set it{suggestion}.")
            return variable.default
        return self._parse(variable, name, text)

    def _parse(self, variable: Variable, name: str, text: str) -> Any:
        rule = variable.kind.rule
        value: Any = None
        try:
            value = variable.kind.parse(text)
        except ValueError as error:
            rule = str(error) or rule
        if value is None:
            self.add_problem(name, rule, text)
            return variable.default
        return value

    def read_family(self, prefix: str) -> dict[str, str]:
        family = {}
        for full_name, value in self.environment.items():
            if not full_name.startswith(prefix):
                continue
            name = full_name[len(prefix) :]
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                self.problems.append(f"{full_name!a} must continue after {prefix} with letters, digits and _.")
            elif _REFUSED_NAMES.fullmatch(name):
                self.problems.append(
                    f"{full_name} is refused: {name} changes how programs are loaded, or buildrunner sets it. Remove it."
                )
            else:
                family[name] = value
        return family

    def _show(self, name: str, text: str) -> str:
        """Quote a malformed value for people: without secrets, and without parts of an address that may be one."""
        if any(v.secret and (v.name == name or (v.prefix and name.startswith(v.prefix))) for v in VARIABLES):
            return "a value that is not shown"
        if self._redactor is None:
            self._redactor = Redactor(list_secrets(self.environment))
        redact = self._redactor.redact
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        # Up to the last @: a password in which / ? or # was not encoded makes the address malformed.
        if "/" in text or ":" in text:
            text = re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*://)?+(?!git@[^@]*$).*@", rf"\1{REDACTED}@", text, flags=re.DOTALL)
            text = re.sub(r"([?#]).+", rf"\1{REDACTED}", text, flags=re.DOTALL)
        text = redact(text)
        plain = _CONTROLS.sub("", text)
        redacted = redact(plain)  # a secret may be broken by control characters, or contain them itself
        return ascii((text if redacted == plain else redacted)[:200])


def read_variables(environment: Mapping[str, str], command: str) -> dict[str, Any]:
    """Return the values of a command's variables by name; see `EnvironmentReader.read`.

    Raises:
        ConfigurationError: lists every problem with its variable, the value found and the value expected.

    """
    reader = EnvironmentReader(environment, command)
    values = reader.read()
    reader.raise_problems()
    return values


def is_refused_name(name: str) -> bool:
    """Return whether a name changes how programs are loaded, or is one that buildrunner sets itself."""
    return _REFUSED_NAMES.fullmatch(name) is not None


def list_secrets(environment: Mapping[str, str]) -> tuple[str, ...]:
    """List the values that must not leave the process; the redactor skips those under 6 characters."""
    single = [variable for variable in VARIABLES if not variable.prefix]
    credentials = [variable.name for variable in single if variable.secret and not variable.kind.is_url]
    addresses = {name for variable in single if variable.kind.is_url for name in (variable.name, *variable.aliases)}
    found = [environment[name] for name in (*credentials, *_MORE_CREDENTIALS) if environment.get(name)]
    found += _secrets_of_webhook(environment)
    more_names = NAME_PATTERNS.parse(environment.get("REDACT_VARS", "")) or ()
    for full_name, value in environment.items():
        prefix = next((prefix for prefix in ("BUILD_ENV_", "INSTALL_ENV_") if full_name.startswith(prefix)), None)
        name = full_name[len(prefix) :] if prefix else full_name
        if prefix and (is_secret_name(name) or matches_any(name, more_names)):
            found.append(value)
        elif (
            name in addresses
            or name.lower().endswith("_proxy")
            or (prefix and "://" in value)  # postgres://user:password@…
        ):
            found += _secrets_of_url(value)
    return tuple(found)


def _secrets_of_webhook(environment: Mapping[str, str]) -> list[str]:
    """Return what identifies the sender to a receiver: the key, and the address but for its host."""
    found = [environment.get("WEBHOOK_SECRET", "").removeprefix("whsec_")]
    try:
        parts = urlsplit(environment.get("WEBHOOK_URL", ""))
        found += [parts.path, parts.query]
        # A log may show the part alone that is secret. A word such as `webhook` or `production` is none.
        alone = [*parts.path.split("/"), *(value for _, value in parse_qsl(parts.query))]
        found += [part for part in alone if re.search(r"^(?=.*[0-9]).{8}|^.{16}", part)]
    except ValueError:
        pass
    return list(filter(None, found))


def _secrets_of_url(value: str) -> list[str]:
    url = value if "://" in value else f"http://{value}"  # a proxy's scheme may be left out
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query)
    except ValueError:
        return []
    has_secret = parts.password or (parts.username and parts.scheme in {"http", "https"})  # https://TOKEN@host
    return [*([url] if has_secret else []), *(secret for key, secret in query if is_secret_name(key))]
