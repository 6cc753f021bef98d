"""Postgres: rows, the COPY writer, migrations, the embedded server and the reader. No other part knows a database."""
