"""The WSGI app on eventlet's own server."""

import sys

import eventlet

eventlet.monkey_patch()

if __name__ == "__main__":
    import importlib

    from eventlet import wsgi

    wsgi.server(eventlet.listen(("127.0.0.1", int(sys.argv[1]))), importlib.import_module(sys.argv[2]).wsgi)
