"""Forms and files of batches: read in part where they are broken, never with an exception, in linear time."""

from __future__ import annotations

import json
import random
import time

from httpx import Request
from hypothesis import given, strategies as st

from otel_llmlog.providers import batches, forms
from tests.capture.test_batches import as_file, chat_line, claude_line
from tests.providers.mutation import STRANGE

TEXTS = st.dictionaries(
    st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=9),
    st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=30),
    max_size=5,
)


@given(texts=TEXTS, file=st.binary(max_size=200))
def test_the_text_fields_of_a_form_are_read_and_never_its_file(texts: dict[str, str], file: bytes) -> None:
    made = Request("POST", "http://x", data=texts, files={"file": ("a.wav", file)})
    body = made.read()
    assert forms.is_form(body)
    assert forms.fields(body) == texts


@given(texts=TEXTS, cut=st.integers(0, 10**4), junk=st.binary(max_size=20))
def test_a_form_that_is_cut_off_or_broken_is_read_in_part(texts: dict[str, str], cut: int, junk: bytes) -> None:
    body = Request("POST", "http://x", data=texts, files={"file": b"x"}).read()
    assert forms.fields(body[: cut % len(body)]).items() <= texts.items()
    forms.fields(body[: cut % len(body)] + junk + body[cut % len(body) :])


def test_forms_and_lines_take_time_linear_in_their_size() -> None:
    def seconds(function, body):
        best = []
        for _ in range(3):
            start = time.perf_counter()
            function(body)
            best.append(time.perf_counter() - start)
        return min(best)

    lines = as_file(chat_line(1))
    for function, body in (
        (forms.fields, b"--x\r\n" + b'content-disposition: form-data; name="a"\r\n\r\nb\r\n--x\r\n' * 200),
        (forms.fields, b"--x\r\n" + b"\r\n--" * 2000),
        (lambda body: list(batches.lines("f", body)), lines * 50),
        (lambda body: list(batches.lines("f", body)), b'{"custom_id"\n' * 500),
    ):
        assert seconds(function, body * 20) < 20 * 8 * max(seconds(function, body), 1e-4)


def test_ten_thousand_broken_lines_are_read_without_an_exception() -> None:
    whole = [as_file(chat_line(1)), as_file(claude_line(2)), as_file({"custom_id": "c", "result": {"type": "expired"}})]
    for seed in range(10_000):
        rng = random.Random(seed)
        body = rng.choice(whole)
        at, length = rng.randrange(len(body)), rng.choice((0, 1, 5, 40))
        body = body[:at] + rng.choice(STRANGE) + body[at + length :]
        for line in batches.lines("file-1", body):
            facts = line.endpoint.read_response(line.body, False)
            usage = line.endpoint.refine(facts, {}).usage
            assert usage is None or (usage.input_tokens >= 0 and usage.output_tokens >= 0)
            assert isinstance(json.loads(line.body), dict)
        assert all(known.created > 0 for known in batches.known_of("/v1/batches/b", body))
