"""Serve build pages and the log API over the streams in Redis and the archive in S3: `buildrunner serve`.

The page is plain files in `static/`, without a build step. What it can rely on:

- `static/index.html` is the shell of both page routes, `/sites/{slug}` and `/sites/{slug}/builds/{build}`. It is the same for
  every build: its script reads `location.pathname`. It is also the body of their 401 answers, so the script can continue
  with a token that it kept.
- `static/NAME` is served as `/static/STEM.HASH.EXT`. When the gateway starts, each quoted or bracketed `/static/NAME` or
  `./NAME` in HTML, CSS, JavaScript and SVG is replaced by that address (`import "./log.js"`, `href="/static/page.css"`,
  `url(./dot.svg)`). HASH covers all files, so modules may import each other in a circle. Restart after a change.
- `static/embed.js` and `static/client.js` are served as `/embed.js` and `/client.js` too, rewritten in the same way; their
  imports resolve to the gateway's origin. They and `/static/` carry `Access-Control-Allow-Origin: *`.
- Scripts and styles come from files: the Content-Security-Policy allows no inline ones. Styles set through the
  DOM (`element.style.top`, `adoptedStyleSheets`) are not affected.
- `GET /api/sites/{slug}/builds?limit=20` → `{"builds": [BUILD, …]}`, newest first. `GET /api/sites/{slug}/builds/{build}` →
  BUILD: `build`, `status`, `stage`, `started` (RFC 3339), `seconds`, `commit`, `reason`, `hint`, `failure`, `files`, `bytes`,
  `stages` (seconds of each), `url` (of the site). What is not known is absent. `{build}` may be `latest`. 404 while nothing is
  known of it.
- `…/events` is the event stream of docs/gateway.md. It ends with `event: end`. When nothing but comments came for more than 35 s
  from a running build, `GET /healthz` says whether Redis answers (200 or 503).
  Until the first event, comments such as `: task {"state": "queued", "since": …}` say what AWS says of the build's task, where the
  gateway can ask. The page must not ask for it.
  If a task is started again under the same build id, the events begin with `seq` 1 once more.
- `…/log.txt` and `…/events.ndjson` are downloads.
- A token is sent as `Authorization: Bearer …` or `?token=…`. 401: none that is valid; 403: for another site.
  Errors of the API are `{"error": "…"}`.
"""
