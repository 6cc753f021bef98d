"""Reading what calls cost: models without a price, and amounts by day and model."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from otel_llmlog.store.reader import Reader


class PriceReader(Reader):
    """Reads from the database of this URL. Every method raises StoreUnavailable when it does not answer."""

    def unpriced_models(self, *, since: datetime | None = None) -> list[dict[str, Any]]:
        """Provider, model, calls, tokens and reason of successful calls that were counted and have no cost."""
        return [dict(row) for row in self._read("unpriced_models", {"since": since})]

    def by_day_and_model(self, since: datetime, until: datetime, providers: Sequence[str]) -> list[dict[str, Any]]:
        """Amounts of these providers, since <= day < until, both the start of a day in UTC."""
        parameters = {"since": since, "until": until, "providers": list(providers)}
        return [dict(row) for row in self._read("reconcile_days", parameters)]
