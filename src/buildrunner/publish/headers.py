"""Choose Content-Type and Cache-Control of a file by its name."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise

from buildrunner.project.output.pages import is_page

# --- Content types -----------------------------------------------------------------------------------------------
# From the WHATWG's standards if they name a type (https://mimesniff.spec.whatwg.org and HTML's "text/javascript"), else from
# the IANA registry (https://www.iana.org/assignments/media-types). The machine's mime.types is ignored, because it differs
# between images. Browsers treat `image/vnd.microsoft.icon`, IANA's name, like `image/x-icon`.
_TYPES = {
    extension: media_type
    for media_type, extensions in {
        "text/html": "html htm shtml",
        "application/xhtml+xml": "xhtml xht",
        "text/css": "css",
        "text/javascript": "js mjs cjs",
        "text/plain": "txt text log",
        "text/markdown": "md markdown",
        "text/csv": "csv",
        "text/calendar": "ics",
        "text/vcard": "vcf",
        "text/vtt": "vtt",
        "text/x-component": "rsc",  # format of React's server components
        "application/json": "json map",
        "application/ld+json": "jsonld",
        "application/geo+json": "geojson",
        "application/manifest+json": "webmanifest",
        "application/xml": "xml xsl xslt",
        "application/rss+xml": "rss",
        "application/atom+xml": "atom",
        "application/wasm": "wasm",
        "application/pdf": "pdf",
        "application/yaml": "yaml yml",
        "application/toml": "toml",
        "application/zip": "zip",
        "application/gzip": "gz tgz",
        "application/x-tar": "tar",
        "application/zstd": "zst",
        "application/x-7z-compressed": "7z",
        "application/x-bzip2": "bz2",
        "application/x-xz": "xz",
        "application/vnd.rar": "rar",
        "application/gpx+xml": "gpx",
        "application/vnd.google-earth.kml+xml": "kml",
        "application/msword": "doc",
        "application/vnd.ms-excel": "xls",
        "application/vnd.ms-powerpoint": "ppt",
        "application/vnd.oasis.opendocument.text": "odt",
        "application/vnd.oasis.opendocument.spreadsheet": "ods",
        "application/vnd.apple.mpegurl": "m3u8",
        "application/dash+xml": "mpd",
        "application/epub+zip": "epub",
        "application/rtf": "rtf",
        "application/vnd.ms-fontobject": "eot",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
        "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
        "font/woff2": "woff2",
        "font/woff": "woff",
        "font/ttf": "ttf",
        "font/otf": "otf",
        "font/collection": "ttc",
        "image/apng": "apng",
        "image/avif": "avif",
        "image/bmp": "bmp",
        "image/gif": "gif",
        "image/heic": "heic",
        "image/jpeg": "jpg jpeg jfif",
        "image/jxl": "jxl",
        "image/png": "png",
        "image/svg+xml": "svg",
        "image/tiff": "tif tiff",
        "image/vnd.microsoft.icon": "ico cur",
        "image/webp": "webp",
        "audio/aac": "aac",
        "audio/flac": "flac",
        "audio/midi": "mid midi",
        "audio/mp4": "m4a",
        "audio/mpeg": "mp3",
        "audio/ogg": "ogg oga opus",
        "audio/wav": "wav",
        "audio/webm": "weba",
        "video/mp2t": "ts",  # of HLS; sources in TypeScript are not published
        "video/mp4": "mp4 m4v m4s",
        "video/ogg": "ogv",
        "video/quicktime": "mov",
        "video/webm": "webm",
        "video/mpeg": "mpg mpeg",
        "video/3gpp": "3gp",
        "video/matroska": "mkv",
        "video/x-msvideo": "avi",
        "model/gltf-binary": "glb",
        "model/gltf+json": "gltf",
        "model/vnd.usdz+zip": "usdz",
    }.items()
    for extension in extensions.split()
}
# Names without an extension, by the document that defines them.
_TYPES_OF_NAMES = {
    "apple-app-site-association": "application/json",  # Apple: "Supporting associated domains"
    "robots.txt": "text/plain",
    "_headers": "text/plain",
    "_redirects": "text/plain",
    "cname": "text/plain",
    "license": "text/plain",
}


def content_type(path: str) -> str:
    """Return the Content-Type of a file by its name; `application/octet-stream` if it is unknown.

    Text is UTF-8, which every bundler writes. JSON has no charset parameter (RFC 8259).
    """
    name = path.rpartition("/")[2].lower()
    media_type = _TYPES_OF_NAMES.get(name) or _TYPES.get(_extension(path), "application/octet-stream")
    return f"{media_type}; charset=utf-8" if media_type.startswith("text/") else media_type


# --- Cache control -----------------------------------------------------------------------------------------------
IMMUTABLE = "public, max-age=31536000, immutable"
REVALIDATE = "public, max-age=0, must-revalidate"


def cache_control(path: str, is_hashed: bool | None = None) -> str:
    """Return the Cache-Control of a file: one year if its name contains a content hash, else revalidation at each request.

    A hash that is not recognized costs a request with a 304 response. A name mistaken for a hash shows visitors an old file
    for a year. In doubt, a name is therefore not a hash.

    Args:
        path: path of the file in the site.
        is_hashed: what a bundler's manifest says about the file; None if there is none.

    """
    if is_page(path):
        return REVALIDATE
    return IMMUTABLE if (_carries_hash(path) if is_hashed is None else is_hashed) else REVALIDATE


# Folders of a single bundler, where a whole name can be a hash (`_nuxt/B4x9ZQab.js`), and folders with more usual names,
# where a hash is only part of a name (`assets/index-DiwrgTda.js`).
_BUNDLERS_OWN = re.compile(r"(^|/)(_astro|_next/static|_nuxt|_expo/static|_build/assets)/")
_BUNDLERS_USUAL = re.compile(r"(^|/)(assets|build|chunks|static/(js|css|media|chunks|wasm|image|font|svg))/")
# SvelteKit promises that everything here is immutable: https://svelte.dev/docs/kit/adapter-node
_ALL_IMMUTABLE = re.compile(r"(^|/)_app/immutable/")
_CODE = frozenset({"js", "mjs", "cjs", "css", "map", "wasm"})
# Alone or behind a name, `0zq_vp9s-5ndp` or `turbopack-1nax4spbsp0_l`, but not `404-not-found`.
_TURBOPACKS = re.compile(r"(.*-)?(?!\d+(-[a-z]+)+$)[0-4][0-9a-z_-]{12}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def _carries_hash(path: str) -> bool:
    """Return whether a path has a hash as written by Vite, webpack, Next, Astro, Angular, SvelteKit, Parcel and similar tools.

    Hashes are hexadecimal (webpack, Parcel, Next to 15, Hugo), 8 characters of base64url (Rollup, so Vite, Astro, Nuxt,
    VitePress), 8 characters of base32 in capitals (esbuild, so Angular), or 13 of digits, small letters, `-` and `_` (Turbopack,
    so Next from 16 on). They are at the end of a part of the name between dots, other than the extension.
    """
    if _ALL_IMMUTABLE.search(path):
        return True
    own = _BUNDLERS_OWN.search(path) is not None
    bundlers = own or _BUNDLERS_USUAL.search(path) is not None
    extension = _extension(path)
    is_code = extension in _CODE or path.endswith(".LICENSE.txt")
    is_media = _TYPES.get(extension, "").startswith(("font/", "image/", "audio/", "video/"))
    if not (bundlers or is_code or is_media):  # data named by an id can change: `user-0a1b2c3d.json`
        return False
    *folders, name = path.split("/")
    *parts, _ = name.split(".")
    if parts and re.fullmatch(r"[0-9a-f]{20}", parts[0]) and _is_mixed(parts[0]):
        return True  # webpack's default name for images and fonts
    for position, part in enumerate(parts):
        _, separator, token = part.removesuffix("_bg").rpartition("-")  # wasm-bindgen: `app-<hash>_bg.wasm`
        if not separator and position == 0 and not own:
            continue  # `avatars/<md5 of a mail address>.png` is a name, not a hash
        if _UUID.search(part):
            continue
        if _is_hexadecimal_hash(token, trusted=is_code or not separator) and (
            len(token) >= 16 or bundlers or is_code or not separator
        ):
            return True
        # Next's fonts: `<hash>-s.p.woff2`.
        if own and any(_is_hexadecimal_hash(each, trusted=False) for each in part.split("-")):
            return True
        if own and "_next" in folders and _TURBOPACKS.fullmatch(part):
            return True
        if (is_code or "media" in folders) and _is_capital_hash(token):
            return True
        # In a folder of Astro's own, a mixed-case part between two dots is a hash, as in `about.ppPldTSI.js`.
        between_dots = own and position > 0 and re.fullmatch(r"[\w-]{8}", part, re.ASCII) is not None
        if between_dots and (any(c.isupper() for c in part[1:]) or _is_mixed(part)):
            return True
        if bundlers and _ends_in_base64_hash(part, whole=own or position > 0, trusted=is_code or own):
            return True
    return False


# Hexadecimal digits that are a word, as in `decade20` or `c0ffee00`, a year, or a color with its opacity, as in `ff8800cc`.
_HEXADECIMAL_NAME = re.compile(
    r"^(19[5-9]|20[0-3])\d|(19[5-9]|20[0-3])\d$|^(?:([0-9a-f])\3){4}$|^\d*(?=[b-df]*[ae])[a-f]{6,}\d*$"
    r"|dead|beef|babe|bead|cafe|deaf|decaf|deed|face|fade|feed|added|ceded|c0ff|c0de|f00d|abcdef"
)


def _is_hexadecimal_hash(token: str, *, trusted: bool) -> bool:
    """Recognize 8 or more hexadecimal digits that are no date, number, word, or both (`20240101`, `cafe2024`).

    In the usual place of a hash (`trusted`), letters after digits are enough, as in `bad59671`.
    """
    if not re.fullmatch(r"[0-9a-f]{8,64}", token) or len(re.findall(r"\d+|\D+", token)) < (2 if trusted else 3):
        return False
    return len(token) >= 16 or not _HEXADECIMAL_NAME.search(token)


def _is_capital_hash(token: str) -> bool:
    """Recognize esbuild's 8 characters of base32. Measured: words pass in 0.6%, words with a number in 3%, hashes in 98%."""
    if not re.fullmatch(r"[A-Z2-7]{8}", token):
        return False
    if token.isalpha():
        return _bits(token) > 38
    return _bits(token) > (43 if re.fullmatch(r"[A-Z]+\d+", token) else 35)


def _is_mixed(token: str) -> bool:
    """Return whether letters and digits alternate more than once, as in `5QJ4ZX2T` and not in `SECTION2`."""
    return len(re.findall(r"\d+|\D+", token)) >= 3


def _ends_in_base64_hash(part: str, *, whole: bool, trusted: bool) -> bool:
    """Recognize Rollup's hash at the end of `part`, or as all of it, alone or before Astro's second hash.

    The hash itself may contain `-` and `_`, so the position of the separator before it decides.
    """
    for candidate in (part, part.rpartition("_")[0]) if whole else (part,):
        stem, token = candidate[:-8], candidate[-8:]
        if not re.fullmatch(r"[A-Za-z0-9_-]{8}", token) or not (stem.endswith("-") or (whole and not stem)):
            continue
        if _looks_random(token, 41 if trusted else 44):
            return True
    return False


# Bits of information of a letter after another one (a to z in a row), counted in the words of 115,000 identifiers in packages
# of npm and PyPI. A random letter has 5 bits, or 6 with its case.
_BITS = {
    "a": "95449759597343959342677769", "b": "37673789449277479457399959", "c": "39673893594477289463599969",
    "d": "37751679389577469557489969", "e": "47446569799453856234867469", "f": "37774489299488389465499969",
    "g": "48882955399574589346499979", "h": "27872899398668379564599969", "i": "56455659999442359544869796",
    "j": "38761789686887379937488999", "k": "48761668398664579736587979", "l": "37752879398488379754479959",
    "m": "25872999399657339858599989", "n": "48433538596776479832659989", "o": "65549769696442549355465799",
    "p": "39763896599388359353589969", "q": "97879699799588977656089999", "r": "38562769396756379444669959",
    "s": "59482694396677448842498959", "t": "38672794299778469355598949", "u": "55564669599343749343999999",
    "v": "27681789299888569867998989", "w": "27773885297674389347999999", "x": "68383798399758729872998759",
    "y": "66574768599443619634986997", "z": "39781888498678479767799956",
}  # fmt: skip


_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[-_]")


def _looks_random(token: str, most: float) -> bool:
    """Distinguish 8 random characters of base64url from words, such as `DarkMode`, `New-York`, `IMG_1234` or `Jan-2024`.

    They are random if encoding them as words, numbers and separators takes more than `most` bits; random characters take 48.
    Rollup encodes a 128-bit number, so that three of four of its hashes begin with B, C or D. Measured: with 41 bits, 97% of
    Rollup's hashes pass, and 4.5% of 8-character combinations of words from package names, years and numbers; with 44 bits, 93%
    and 1.9%.
    """
    if not any(c.isupper() for c in token) or (token.upper() == token and most > 41):  # `SKU-A1B2C3D4.jpg`
        return False
    return _bits(token) + (2.5 if token[0] in "BCD" else -1.5) > most


def _bits(token: str) -> float:
    """Return how many bits encode `token` as words, numbers and separators."""
    bits = 0.0
    joined = False
    for part in _PARTS.findall(token):
        if part in "-_":
            bits += 3
            joined = False
            continue
        bits += 3 * joined
        joined = True
        if part.isdigit():
            bits += 6 if re.fullmatch(r"(19|20)\d\d", part) else 3.3 * len(part)
        else:
            letters = part.lower()
            bits += 4.7 + sum(int(_BITS[left][ord(right) - ord("a")]) for left, right in pairwise(letters))
    return bits


@lru_cache(maxsize=8)  # each path is looked up several times in a row
def _extension(path: str) -> str:
    """Return the extension in lower case without its dot; a name like `.nojekyll` has none."""
    name = path.rpartition("/")[2].lstrip(".")
    return name.rpartition(".")[2].lower() if "." in name else ""
