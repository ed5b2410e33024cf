"""Rules of other hosts in a whole run: compiled, stored, and not published; and references that have to be whole."""

from __future__ import annotations

from buildrunner.routing.document import Document
from buildrunner.routing.route import Request, route
from support.harness import PLAIN, Program, Repositories

PAGE = "<!doctype html><a href=/old>x</a>"
BUILD = f"mkdir -p dist; echo '{PAGE}' >dist/index.html; echo x >dist/404.html; cp _redirects _headers dist/"
RULES = {
    "_redirects": "/old /new 301\n/api/* https://api.example.com/:splat 200\n",
    "_headers": "/*\n  X-Frame-Options: DENY\n",
    "vercel.json": '{"cleanUrls": true}',
}


def test_rules_are_stored_beside_the_site(program: Program, repositories: Repositories) -> None:
    run = program.run(repositories.app(BUILD, **RULES), ROBOTS="noindex", STRICT_REFERENCES="1", **PLAIN)

    assert run.code == 0
    assert set(program.objects(run.slug)) == {"index.html", "404.html"}
    stored = program.client().get_object(Bucket="sites", Key=f"__routing/{run.slug}.json")
    document = Document.from_json(stored["Body"].read())
    answer = route(Request("/old"), document, {"index.html", "404.html"}.__contains__)
    assert (answer.status, answer.location) == (301, "/new")
    assert ("X-Robots-Tag", "noindex") in answer.headers
    warnings = [event["log"] for event in run.events if event.get("level") == "warning"]
    assert len(warnings) == 1
    assert warnings[0].startswith("dist/_redirects:2: ")
    assert run.said("Rules of the site: 1 redirect, 1 header rule, clean URLs, noindex")


def test_broken_references_fail_strict_builds_alone(program: Program, repositories: Repositories) -> None:
    first = program.run(repositories.app(BUILD, **RULES), **PLAIN)
    broken = BUILD.replace("/old", "/gone").replace(">dist/404", " old >dist/404")

    strict = program.run(repositories.app(broken, **RULES), SLUG=first.slug, STRICT_REFERENCES="1", **PLAIN)

    assert (strict.code, strict.result["stage"]) == (40, "build")
    assert strict.result["reason"] == "index.html references /gone, which the site does not have."
    assert program.objects(first.slug)["404.html"]["body"] == b"x\n"

    lax = program.run(repositories.app(broken, **RULES), SLUG=first.slug, **PLAIN)

    assert lax.code == 0
    assert lax.said("index.html references /gone, which the site does not have.")


def test_settings_of_other_hosts_build_the_site(program: Program, repositories: Repositories) -> None:
    settings = """
[build]
command = 'mkdir -p site && echo "<p>$GREETING $NODE_ENV $CI $(cat installed)" >site/index.html'
publish = "site"
[build.environment]
GREETING = "hello"
LD_PRELOAD = "x.so"
"""
    vercel = '{"installCommand": "echo $GREETING >installed"}'

    run = program.run(repositories.app("exit 1", **{"netlify.toml": settings, "vercel.json": vercel}))
    again = program.run(
        repositories.app("exit 1", **{"netlify.toml": settings}),
        BUILD_ENV_GREETING="bye",
        INSTALL_COMMAND="touch installed",
    )

    assert run.code == 0
    assert set(program.objects(run.slug)) == {"index.html"}
    assert program.objects(run.slug)["index.html"]["body"] == b"<p>hello  true hello\n"
    for sentence in (
        "Applying build.command of netlify.toml: mkdir -p site",
        "Applying build.publish of netlify.toml: site",
        "Applying installCommand of vercel.json: echo $GREETING >installed",
        "Applying build.environment of netlify.toml: GREETING",
        "Variables in netlify.toml are ignored because buildrunner sets or refuses them: LD_PRELOAD.",
    ):
        assert any(event.get("log", "").startswith(sentence) for event in run.events), sentence
    assert program.objects(again.slug)["index.html"]["body"] == b"<p>bye  true \n"
