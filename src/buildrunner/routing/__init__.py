"""How a site answers requests: rules of its author, compiled when it is published, and one function that decides.

    rules = collect_rules(read)                      while a site is published: from _redirects, _headers, netlify.toml, vercel.json
    document = rules.document.to_json()              stored as __routing/{slug}.json
    answer = route(request, document, exists)        for each request, in `sites` and `dev`

Pure code: nothing here reads a file, a bucket or a socket.
"""
