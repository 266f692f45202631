"""A panel's page: browsers see and answer what rings here (extra ``web``: starlette, uvicorn).

::

    asked.py    what browsers ask, and what comes of it: words
    page.py     the page's state: who rings, who is in a call; pure, time and tabs are arguments
    content.py  what a page shows of a call's content; pure
    access.py   who may see it, from which address it may be asked; pure
    words.py    the sentences that the server says, in German and English
    app.py      HTTP: the above behind routes, server-sent events
    hub.py      the newest state, for any number of browsers
    server.py   uvicorn on a thread of its own
    bounds.py   what strangers can take of it
    service.py  the panel with its page: all of it on the service's one loop
    static/     what the browser gets
"""
