"""What a doorbell or a panel counts, for Prometheus (extra ``metrics``: prometheus-client).

::

    collector.py    the figures of one client, read when somebody asks
    http_server.py  a WSGI application on a thread of its own; the bundled broker's, too
    window.py       where both are served for a service, and whether they can be
"""
