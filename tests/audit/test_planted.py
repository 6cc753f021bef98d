"""Credentials in what is recorded, in whatever holds them, are not in its row."""

from __future__ import annotations

import json

import pytest

from otel_llmlog import audit
from otel_llmlog.audit.values import MAX_TEXT
from otel_llmlog.redact import MASK
from tests.audit.conftest import Auditing
from tests.redact.credentials import DATA, NAMES, PRIVATE_KEYS, SHAPED, TEXTS

SECRET = "Zq9-hunter2"


def test_no_credential_is_in_the_row_whatever_holds_it(shared: Auditing) -> None:
    names = [name for name in NAMES if not name.startswith("_")]
    carriers = {**DATA, **TEXTS}
    for name in names:
        before = {form: carry(name, SECRET) for form, carry in carriers.items()}
        audit.record(audit.KEY_UPDATE, object_id="k", before=before, after={"note": before}, changed_by="ada")
    rows = shared.new_rows()
    assert len(rows) == len(names)
    for row, name in zip(rows, names, strict=True):
        stored = json.dumps(row, default=str)
        assert SECRET not in stored, name
        assert set(row["before_value"]) == set(carriers)
        assert MASK in stored


def test_no_key_of_any_vendor_is_in_the_row(shared: Auditing) -> None:
    keys = {**SHAPED, **PRIVATE_KEYS}
    for key in keys.values():
        details = {"note": f"rotated {key} today", "notes": [key], key: 1}
        audit.record(
            audit.KEY_UPDATE, object_id=key, before=details, after=key, changed_by=key, error_class=key, route=f"/x/{key}",
            requester_ip_address=key, source=key,
        )  # fmt: skip
    for row, key in zip(shared.new_rows(), keys.values(), strict=True):
        stored = json.dumps(row, default=str)
        for part in key.replace("Bearer ", "").replace("Basic ", "").split("\n"):
            if "PRIVATE" not in part:
                assert part not in stored


@pytest.mark.parametrize("name", ["password", "client_secret", "dsn"])
def test_a_secret_at_the_cut_of_a_long_text_is_masked_with_its_name(shared: Auditing, name: str) -> None:
    for at in range(0, 60, 7):
        head = "x " * (MAX_TEXT // 6 - at)
        audit.record(audit.KEY_UPDATE, object_id="k", after={"text": f"{head}{name}={SECRET} " + "y " * MAX_TEXT})
        tail = "y " * (MAX_TEXT // 3 - at)
        audit.record(audit.KEY_UPDATE, object_id="k", after={"text": f"{'x ' * MAX_TEXT}{name}={SECRET} {tail}"})
    assert not any(SECRET in json.dumps(row, default=str) for row in shared.new_rows())
