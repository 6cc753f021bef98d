from otel_llmlog.store.postgres import PostgresExporter


def test_x(database_url):
    PostgresExporter(database_url).export([])


def test_y(empty_database_url):
    PostgresExporter(empty_database_url).export([])
