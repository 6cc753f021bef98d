"""Revisions. The file name begins with the revision, like the SQL file it runs."""
