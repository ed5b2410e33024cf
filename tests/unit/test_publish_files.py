from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildrunner.errors import BuildFailed
from buildrunner.publish.files import Site, collect
from buildrunner.publish.headers import IMMUTABLE, REVALIDATE, cache_control, content_type
from buildrunner.publish.walk import Limits
from buildrunner.redaction import visible


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    """Return an output directory with one page, in a checkout next to a secret."""
    folder = tmp_path / "checkout" / "dist"
    folder.mkdir(parents=True)
    (folder / "index.html").write_text("<h1>hello</h1>")
    (tmp_path / "secret").write_text("secret")
    return folder


@pytest.fixture
def site_of(dist: Path) -> Iterator[SiteOf]:
    opened = SiteOf(dist)
    yield opened
    for site in opened.sites:
        site.close()


class SiteOf:
    def __init__(self, dist: Path) -> None:
        self.dist = dist
        self.sites: list[Site] = []

    def __call__(self, root: Path | None = None, prefix: str = "") -> Site:
        self.sites.append(collect(root or self.dist, self.dist.parent, prefix=prefix))
        return self.sites[-1]


def read(site: Site, path: str) -> bytes:
    (file,) = (file for file in site.files if file.path == path)
    descriptor = site.open(file)
    try:
        return os.read(descriptor, 1 << 20)
    finally:
        os.close(descriptor)


# --- collect ---


def test_gits_own_folder_is_left_out_without_a_word(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/config").write_text("x")
    (tmp_path / "index.html").write_text("x")

    with collect(tmp_path, tmp_path) as site:
        assert [file.path for file in site.files] == ["index.html"]
        assert site.left_out == ()


def test_files_are_sorted_by_path_with_sizes_and_headers(dist: Path, site_of: SiteOf) -> None:
    (dist / "assets").mkdir()
    (dist / "assets/index-B4x9ZQab.js").write_text("1234")
    (dist / ".well-known").mkdir()
    (dist / ".well-known/apple-app-site-association").write_text("{}")

    site = site_of()

    assert [(f.path, f.size, f.content_type, f.cache_control, f.is_page) for f in site.files] == [
        (".well-known/apple-app-site-association", 2, "application/json", REVALIDATE, False),
        ("assets/index-B4x9ZQab.js", 4, "text/javascript; charset=utf-8", IMMUTABLE, False),
        ("index.html", 14, "text/html; charset=utf-8", REVALIDATE, True),
    ]
    assert site.total_bytes == 20
    assert site.left_out == ()
    assert read(site, "index.html") == b"<h1>hello</h1>"


def test_a_link_to_a_file_inside_is_published_as_that_file(dist: Path, site_of: SiteOf) -> None:
    (dist / "docs").mkdir()
    (dist / "docs/latest.html").symlink_to("../index.html")
    (dist / "absolute.html").symlink_to(dist / "index.html")
    (dist / "around.html").symlink_to("../dist/docs/latest.html")

    site = site_of()

    assert [file.path for file in site.files] == ["absolute.html", "around.html", "docs/latest.html", "index.html"]
    assert {read(site, file.path) for file in site.files} == {b"<h1>hello</h1>"}
    assert {file.size for file in site.files} == {14}


def test_links_that_lead_out_nowhere_or_around_are_named(dist: Path, site_of: SiteOf) -> None:
    (dist / "folder").mkdir()
    (dist / "passwd").symlink_to("/etc/passwd")
    (dist / "up").symlink_to("../../secret")
    (dist / "outside").symlink_to("../..")
    (dist / "self").symlink_to(".")
    (dist / "folder/around").symlink_to("../folder")
    (dist / "gone").symlink_to("nothing-here")
    (dist / "loop").symlink_to("loop2")
    (dist / "loop2").symlink_to("loop")
    (dist / "through").symlink_to("/proc/self/root/etc/passwd")

    site = site_of()

    assert [file.path for file in site.files] == ["index.html"]
    assert site.left_out == (
        "folder/around is left out: it is a link to a folder that holds the link itself.",
        "gone is left out: it is a link to something that does not exist.",
        "loop is left out: it is a link that leads nowhere.",
        "loop2 is left out: it is a link that leads nowhere.",
        "outside is left out: it is a link that leads out of the output directory.",
        "passwd is left out: it is a link that leads out of the output directory.",
        "self is left out: it is a link to a folder that holds the link itself.",
        "through is left out: it is a link that leads out of the output directory.",
        "up is left out: it is a link that leads out of the output directory.",
    )


def test_a_folder_with_the_prefix_of_the_root_is_not_inside_it(dist: Path, site_of: SiteOf) -> None:
    (dist.parent / "dist2").mkdir()
    (dist.parent / "dist2/secret.txt").write_text("secret")
    (dist / "link.txt").symlink_to("../dist2/secret.txt")

    site = site_of()

    assert site.left_out == ("link.txt is left out: it is a link that leads out of the output directory.",)


def test_pipes_and_sockets_are_left_out_without_waiting_for_them(
    dist: Path, site_of: SiteOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(dist / "pipe")
    (dist / "to-pipe").symlink_to("pipe")
    (dist / "null").symlink_to("/dev/null")
    monkeypatch.chdir(dist)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")  # relative: a socket's address has room for 108 bytes

        site = site_of()

    assert [file.path for file in site.files] == ["index.html"]
    assert site.left_out == (
        "null is left out: it is a link that leads out of the output directory.",
        "pipe is left out: it is a named pipe, not a file.",
        "socket is left out: it is a socket, not a file.",
        "to-pipe is left out: it is a link to something that is not a file.",
    )


def test_names_that_no_key_can_have_are_skipped_and_shown(dist: Path, site_of: SiteOf) -> None:
    for name in (b"latin1-\xe9.txt", b"line\nbreak.txt", b"esc\x1b[31m.txt", b"c1-\xc2\x85.txt"):
        with open(os.path.join(os.fsencode(dist), name), "w"):
            pass
    os.mkdir(os.path.join(os.fsencode(dist), b"folder-\xff"))

    site = site_of()

    assert [file.path for file in site.files] == ["index.html"]
    assert site.left_out == (
        r"c1-\x85.txt is left out: its name contains control characters.",
        r"esc\x1b[31m.txt is left out: its name contains control characters.",
        r"folder-\xff is left out: its name is not UTF-8.",
        r"latin1-\xe9.txt is left out: its name is not UTF-8.",
        r"line\nbreak.txt is left out: its name contains control characters.",
    )


def test_a_link_to_a_folder_inside_is_published_as_that_folder(dist: Path, site_of: SiteOf) -> None:
    (dist / "v2/guide").mkdir(parents=True)
    (dist / "v2/guide/a.html").write_text("two")
    (dist / "v2/next").symlink_to("../v3")
    (dist / "v3").mkdir()
    (dist / "v3/b.html").write_text("three")
    (dist / "v3/home.html").symlink_to("../index.html")
    (dist / "latest").symlink_to("v2")
    (dist / "newest").symlink_to("latest/guide")
    (dist / "absolute").symlink_to(dist / "v3")

    site = site_of()

    assert site.left_out == ()
    assert {file.path for file in site.files if file.path.startswith(("latest", "newest", "absolute", "v2/next"))} == {
        "absolute/b.html",
        "absolute/home.html",
        "latest/guide/a.html",
        "latest/next/b.html",
        "latest/next/home.html",
        "newest/a.html",
        "v2/next/b.html",
        "v2/next/home.html",
    }
    assert read(site, "latest/next/b.html") == b"three"
    assert read(site, "latest/next/home.html") == b"<h1>hello</h1>"


def test_links_to_each_others_folders_end(dist: Path, site_of: SiteOf) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        (dist / name).mkdir()
        (dist / name / f"{name}.txt").touch()
        (dist / name / other).symlink_to(f"../{other}")

    site = site_of()

    assert [file.path for file in site.files] == ["a/a.txt", "a/b/b.txt", "b/a/a.txt", "b/b.txt", "index.html"]
    cycle = "is left out: it is a link to a folder that holds the link itself."
    assert site.left_out == (f"a/b/a {cycle}", f"b/a/b {cycle}")


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_any_links_between_folders_end_and_stay_inside(tmp_path_factory: pytest.TempPathFactory, pairs: Any) -> None:
    dist = tmp_path_factory.mktemp("links") / "dist"
    paths = ["a", "a/b", "a/b/c", "d", "d/e", "."]
    for path in paths:
        (dist / path).mkdir(parents=True, exist_ok=True)
        (dist / path / "file").write_text(path)
    for number, (at, to) in enumerate(pairs):
        (dist / paths[at] / f"link{number}").symlink_to(dist / paths[to])

    with collect(dist, dist.parent, limits=Limits(500, 10_000, 100)) as site:
        assert {path for path in paths if read(site, os.path.normpath(f"{path}/file")) == path.encode()} == set(paths)
        assert len(site.files) <= 500
        assert {read(site, file.path).decode() for file in site.files} == set(paths)


def test_links_that_multiply_do_not_exceed_the_limits_of_a_site(dist: Path) -> None:
    for number in range(30):  # each folder holds the next one twice: 2 ** 30 files
        (dist / f"{number}").mkdir()
        (dist / f"{number}/file").touch()
        for name in ("a", "b"):
            (dist / f"{number}" / name).symlink_to(f"../{number + 1}")
    (dist / "30").mkdir()

    with collect(dist, dist.parent, limits=Limits(1000, 10_000, 100)) as site:
        assert {f"{number}/file" for number in range(30)} <= {file.path for file in site.files}
        assert len(site.files) <= 1000
        assert any("0/a is left out: it is a link to a folder, and links may add" in text for text in site.left_out)


def test_a_folder_that_became_a_link_is_not_followed_by_a_link(dist: Path, site_of: SiteOf) -> None:
    (dist / "v2").mkdir()
    (dist / "v2/passwd").write_text("mine")
    (dist / "latest").symlink_to("v2")
    site = site_of()
    (dist / "v2").rename(dist / "v1")
    (dist / "v2").symlink_to("/etc")

    for file in site.files:
        if file.path != "index.html":
            with pytest.raises(BuildFailed, match="cannot be read"):
                site.open(file)


def test_nothing_of_git_is_published_through_a_link(tmp_path: Path) -> None:
    (tmp_path / ".git/hooks").mkdir(parents=True)
    (tmp_path / ".git/config").write_text("x")
    (tmp_path / "index.html").write_text("x")
    for name, target in {"git": ".git", "hooks": ".git/hooks", "config": ".git/config"}.items():
        (tmp_path / name).symlink_to(target)

    with collect(tmp_path, tmp_path) as site:
        assert [file.path for file in site.files] == ["index.html"]
        assert len([text for text in site.left_out if "it is a link to .git, which is git's" in text]) == 3


@pytest.mark.parametrize(
    ("out", "target", "words"),
    [
        ("dist", ".git", "dist is a link to .git, a tool's folder, not a site"),
        ("dist", ".git/hooks", "dist is a link to .git, a tool's folder, not a site"),
        ("dist", ".github", "dist is a link to .github, a tool's folder, not a site"),
        (".git", None, ".git is a tool's folder, not a site"),
        ("dist", "node_modules", "dist is node_modules, the folder of installed"),
        ("node_modules", None, "node_modules is node_modules, the folder of installed"),
        ("dist", ".", "dist is a link to a folder that holds the link itself"),
        ("app/dist", "..", "app/dist is a link to a folder that holds the link itself"),
    ],
)
def test_an_output_that_is_no_site_is_refused(tmp_path: Path, out: str, target: str | None, words: str) -> None:
    for folder in (".git/hooks", ".github", "node_modules", "app"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "index.html").write_text("x")
    if target:
        (tmp_path / out).symlink_to(target)

    with pytest.raises(BuildFailed) as failure:
        collect(tmp_path / out, tmp_path)

    assert words in failure.value.reason
    assert failure.value.exit_code == 40


def test_a_backslash_in_a_name_is_skipped_as_browsers_change_it(dist: Path, site_of: SiteOf) -> None:
    (dist / "a\\..\\b").write_text("x")

    site = site_of()

    assert [file.path for file in site.files] == ["index.html"]
    (sentence,) = site.left_out
    assert sentence.endswith("is left out: its name contains a backslash, which browsers treat as /.")


def test_endless_folders_and_pipes_are_not_walked_to_the_end(dist: Path) -> None:
    for number in range(20):
        os.mkfifo(dist / f"{number}")

    with collect(dist, dist.parent, limits=Limits(20, 10_000, 10_000)) as site:
        assert len(site.left_out) == 20
    with pytest.raises(BuildFailed, match="more than 19 folders, links and other things"):
        collect(dist, dist.parent, limits=Limits(19, 10_000, 10_000))


def test_a_link_in_the_place_of_the_checkout_leads_nowhere(dist: Path, tmp_path: Path) -> None:
    (tmp_path / "victim/dist").mkdir(parents=True)
    (tmp_path / "victim/dist/secret").write_text("secret")
    dist.parent.rename(tmp_path / "moved")
    dist.parent.symlink_to(tmp_path / "victim")

    with pytest.raises(BuildFailed, match="leads out of the repository"):
        collect(dist, dist.parent)


def test_names_in_every_script_stay(dist: Path, site_of: SiteOf) -> None:
    (dist / "über uns & mehr").mkdir()
    (dist / "über uns & mehr/日本語 🎉.html").write_text("")

    assert "über uns & mehr/日本語 🎉.html" in [file.path for file in site_of().files]


def test_a_path_longer_than_a_key_of_s3_is_left_out(dist: Path, site_of: SiteOf) -> None:
    folder = dist.joinpath(*["d" * 249] * 4)  # 4 × 250 bytes with the slashes
    folder.mkdir(parents=True)
    (folder / ("a" * 16)).touch()
    (folder / ("b" * 17)).touch()

    site = site_of(prefix="my-slug/")

    assert [len(file.path) for file in site.files] == [1016, len("index.html")]
    assert len(site.left_out) == 1
    assert site.left_out[0].endswith("its path is longer than the 1016 bytes that S3 allows.")


def test_deep_folders_take_no_more_descriptors_than_shallow_ones(dist: Path, site_of: SiteOf) -> None:
    folder = dist
    for _ in range(400):
        folder /= "d"
    folder.mkdir(parents=True)
    (folder / "deep.txt").write_text("deep")
    before = len(os.listdir("/proc/self/fd"))

    site = site_of()

    assert read(site, "d/" * 400 + "deep.txt") == b"deep"
    assert len(os.listdir("/proc/self/fd")) == before + 1


def test_the_root_may_be_a_link_into_the_checkout(dist: Path, site_of: SiteOf) -> None:
    link = dist.parent / "build"
    link.symlink_to("dist")

    assert [file.path for file in site_of(link).files] == ["index.html"]


def test_the_root_may_not_be_a_link_out_of_the_checkout(dist: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/secret.html").touch()
    link = dist.parent / "build"
    link.symlink_to("../elsewhere")

    with pytest.raises(BuildFailed, match="build is a link that leads out of the repository") as failure:
        collect(link, dist.parent)

    assert failure.value.stage == "build"
    assert failure.value.exit_code == 40


def test_a_missing_folder_a_file_and_an_empty_folder_are_errors(dist: Path) -> None:
    (dist.parent / "out").write_text("")
    (dist.parent / "empty/inner").mkdir(parents=True)

    for name, words in (
        ("public", "The build did not create the folder public."),
        ("out", "The build's output out is not a folder."),
        ("empty", "The build wrote no files to empty."),
    ):
        with pytest.raises(BuildFailed) as failure:
            collect(dist.parent / name, dist.parent)
        assert failure.value.reason == words
        assert "OUTPUT_DIR" in (failure.value.hint or "")


def test_files_of_another_user_are_skipped_even_behind_a_link(dist: Path) -> None:
    (dist / "link").symlink_to("index.html")

    with collect(dist, dist.parent, owner=os.getuid()) as site:
        assert [file.path for file in site.files] == ["index.html", "link"]
    with pytest.raises(BuildFailed) as failure:
        collect(dist, dist.parent, owner=os.getuid() + 1)

    assert failure.value.hint == "index.html is left out: it belongs to another user."


@pytest.mark.parametrize(
    ("limits", "words", "variable"),
    [
        (Limits(2, 10_000, 10_000), "The site has more than 2 files.", "SITE_MAX_FILES"),
        (Limits(9, 2002, 10_000), "The site has more than 2,002 bytes.", "SITE_MAX_BYTES"),
        (Limits(9, 10_000, 1000), "The file c is 1,001 bytes; the limit is 1,000 bytes.", "SITE_MAX_FILE_BYTES"),
    ],
)
def test_a_site_over_a_limit_fails_with_the_name_of_the_limit(
    dist: Path, limits: Limits, words: str, variable: str
) -> None:
    (dist / "index.html").unlink()
    for name, size in (("a", 1000), ("b", 1000), ("c", 1001)):
        with (dist / name).open("wb") as file:
            file.truncate(size)  # no block of it is on the disk: what counts is what would be sent

    with collect(dist, dist.parent, limits=Limits(3, 3001, 1001)) as site:
        assert site.total_bytes == 3001
    with pytest.raises(BuildFailed) as failure:
        collect(dist, dist.parent, limits=limits)

    assert failure.value.reason == words
    assert variable in (failure.value.hint or "")
    assert failure.value.exit_code == 40


def test_a_file_that_changed_after_the_walk_is_not_sent(dist: Path, site_of: SiteOf) -> None:
    site = site_of()
    (page,) = site.files
    (dist / "index.html").write_text("something longer than before")

    with pytest.raises(BuildFailed, match=r"index\.html changed during upload"):
        site.open(page)


def test_a_file_or_folder_that_became_a_link_is_not_followed(dist: Path, site_of: SiteOf) -> None:
    (dist / "a").mkdir()
    (dist / "a/passwd").write_text("mine")
    site = site_of()
    (dist / "a").rename(dist / "b")
    (dist / "a").symlink_to("/etc")
    (dist / "index.html").unlink()
    (dist / "index.html").symlink_to("/etc/passwd")

    for file in site.files:
        with pytest.raises(BuildFailed, match="cannot be read"):
            site.open(file)


def test_a_file_that_became_a_pipe_does_not_make_us_wait(dist: Path, site_of: SiteOf) -> None:
    site = site_of()
    (dist / "index.html").unlink()
    os.mkfifo(dist / "index.html")

    with pytest.raises(BuildFailed, match="changed during upload"):
        site.open(site.files[0])


def test_a_closed_site_holds_nothing_open(dist: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))

    with collect(dist, dist.parent):
        pass

    assert set(os.listdir("/proc/self/fd")) == before


@given(st.text())
def test_what_is_visible_always_prints(text: str) -> None:
    assert visible(text).isprintable()


# --- content types ---


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("index.html", "text/html; charset=utf-8"),
        ("INDEX.HTML", "text/html; charset=utf-8"),
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.mjs", "text/javascript; charset=utf-8"),
        ("a.cjs", "text/javascript; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.js.map", "application/json"),
        ("a.json", "application/json"),
        ("site.webmanifest", "application/manifest+json"),
        ("a.woff2", "font/woff2"),
        ("a.avif", "image/avif"),
        ("a.svg", "image/svg+xml"),
        ("a.wasm", "application/wasm"),
        ("favicon.ico", "image/vnd.microsoft.icon"),
        ("sitemap.xml", "application/xml"),
        ("robots.txt", "text/plain; charset=utf-8"),
        ("main.0a1b2c3d.js.LICENSE.txt", "text/plain; charset=utf-8"),
        (".well-known/apple-app-site-association", "application/json"),
        ("CNAME", "text/plain; charset=utf-8"),
        (".nojekyll", "application/octet-stream"),
        ("a.unheard-of", "application/octet-stream"),
        ("v1.0/data", "application/octet-stream"),
    ],
)
def test_content_types_are_those_of_the_webs_registries(path: str, expected: str) -> None:
    assert content_type(path) == expected


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_every_name_has_a_content_type_and_a_cache_rule(path: str) -> None:
    assert content_type(path).isascii()
    assert cache_control(path) in {IMMUTABLE, REVALIDATE}


# --- content hashes ---


@pytest.mark.parametrize(
    "path",
    [
        # Vite 5 to 8
        "assets/index-DiwrgTda.css",
        "assets/index-DiwrgTda.js",
        "assets/react-CHdo91hT.svg",
        "assets/index-B-x9_Qab.js",
        "assets/index--4x9ZQa_.js",
        "assets/vendor-B7PI925R.js.map",
        "assets/inter-latin-wght-normal-Dx4kXJAl.woff2",
        "docs/assets/About-C8b8MxRe.js",
        # Vite 2 to 4
        "assets/index.0a1b2c3d.js",
        "assets/index-0a1b2c3d.js",
        # webpack, Create React App, Vue CLI, Rspack
        "static/js/main.0a1b2c3d.js",
        "static/js/main.0a1b2c3d.js.map",
        "static/js/main.0a1b2c3d.js.LICENSE.txt",
        "static/js/453.5c1e3f7a.chunk.js",
        "static/css/main.f855e6bc.css",
        "static/media/logo.6ce24c58023cc2f8fd88fe9d219db6c6.svg",
        "js/app.8c7b3f2d.js",
        "js/chunk-vendors.3e2f1d4c.js",
        "img/logo.82b9c7a5.png",
        # Next
        "_next/static/chunks/main-app-3b2c1d0e4f5a6b7c.js",
        "_next/static/chunks/app/page-8a1d2e3f4b5c6d7e.js",
        "_next/static/chunks/0a1b2c3d4e5f6a7b.js",
        "_next/static/css/7e7d96b1e6991756.css",
        "_next/static/media/e4af272ccee01ff0-s.p.woff2",
        # Astro, VitePress, Nuxt
        "_astro/x.B4x9ZQab.css",
        "_astro/hoisted.CHdo91hT.js",
        "_astro/photo.B4x9ZQab_Z1c2dE.webp",
        "assets/guide_index.md.BxY3z_ab.lean.js",
        "_nuxt/B4x9ZQab.js",
        "_nuxt/entry.CHdo91hT.css",
        # Angular
        "main-ABCDEFGH.js",
        "main-5QJ4ZX2T.js",
        "chunk-7KZQ3M4V.js",
        "polyfills-FFHMD2TL.js",
        "styles-ZX5QKQ2T.css",
        "main.0a1b2c3d4e5f6a7b.js",
        # SvelteKit
        "_app/immutable/entry/start.CHdo91hT.js",
        "_app/immutable/chunks/DtnwTdpv.js",
        "_app/immutable/assets/0.CSPyVRIc.css",
        # Parcel, Gatsby, Docusaurus, Hugo, Trunk
        "index.1f2e3d4c.js",
        "logo.1f2e3d4c.svg",
        "webpack-runtime-0a1b2c3d4e5f6a7b8c9d.js",
        "assets/js/935f2afb.8bd3f1a2.js",
        "css/main.min.e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855.css",
        "app-0a1b2c3d4e5f6a7b_bg.wasm",
    ],
)
def test_a_content_hash_is_recognized(path: str) -> None:
    assert cache_control(path) == IMMUTABLE


@pytest.mark.parametrize("folder", ["", "assets/", "static/js/", "_astro/", "js/"])
@pytest.mark.parametrize(
    "name",
    [
        "jquery-ui-autocomplete.js",
        "logo-20240101.png",
        "component-Sidebar1.js",
        "MyButton.js",
        "bootstrap-5.3.2.min.js",
        "icon-512x512.png",
        "icon-1024x768.png",
        "vendor-ReactDom.js",
        "hero-DarkMode.png",
        "frame-iOS17Pro.png",
        "lib-JsonEdit.js",
        "menu-cafe2024.png",
        "photos-1dec2024.jpg",
        "page-SECTION2.js",
        "page-OVERVIEW.js",
        "my-side-bar.css",
        "grid-v1_2_3_4.png",
        "backup-20240101120000.js",
        "words-deadbeef.js",
        "number-12345678.js",
        "upload-550e8400-e29b-41d4-a716-4466554400ab.png",
        "three.module.min.js",
        "manifest.webmanifest",
        "sw.js",
    ],
)
def test_a_name_that_only_resembles_a_hash_is_revalidated(folder: str, name: str) -> None:
    assert cache_control(folder + name) == REVALIDATE


@pytest.mark.parametrize(
    "path",
    [
        "index.html",
        "assets/index-DiwrgTda.html",
        "_app/immutable/page.html",
        "about.0a1b2c3d.htm",
        "_app/version.json",
        "_nuxt/builds/latest.json",
        "_next/static/chunks/webpack.js",
        "api/user-0a1b2c3d.json",
        "avatars/d41d8cd98f00b204e9800998ecf8427e.png",
        "assets/avatars/d41d8cd98f00b204e9800998ecf8427e.png",
        "avatars/user-0a1b2c3d.png",
        "photo-x7Gh2kLp.jpg",
        "_next/static/chunks/404-not-found.js",
        "_next/static/5K4A1Ye8wF5XjNBsrVKX9/_buildManifest.js",
        "assets/LICENSE",
        "assets/",
        "shoe-ABFNRTV2.jpg",
        "avatars/0142ee7712ef8ab72f22a1b2.png",
    ],
)
def test_pages_and_names_made_of_ids_are_asked_for_each_time(path: str) -> None:
    assert cache_control(path) == REVALIDATE
