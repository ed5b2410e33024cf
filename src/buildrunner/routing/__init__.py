"""Compile a site's redirect and header rules, and decide how the site answers each request.

    rules = collect_rules(files, pages)              when a site is published: _redirects, _headers, netlify.toml, vercel.json
    document = rules.document.to_json()              stored as __routing/{slug}.json
    answer = route(request, document, exists)        for each request, in `sites` and `dev`

This is pure code: it reads no file, bucket or socket.
"""
