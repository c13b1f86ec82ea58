"""The page and the HTTP API: one process that answers over a socket what `refseg segment` answers on the console.

The way of a request: asking (what is wanted, held to the limits) -> worker (a bounded queue, models, passes of several
requests) -> answering (JSON, thresholds of kept log-odds); `app` has the routes, `server` the socket and its end, and
`page` what a browser loads, which is all of our own.
"""
