"""The `llmlog` command. One file a group of commands; what they ask the database is in `store.reader`."""

from otel_llmlog.cli.app import main

__all__ = ["main"]
