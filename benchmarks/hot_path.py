"""What capture costs the thread that makes the call, beside the bare SDK and three other instrumentations.

How to read it: each variant is a process of its own, all of one shape: the real `openai` SDK over an in-process
transport that answers at once, an SDK tracer provider with a batch processor and an exporter that drops spans.
The driver lets them run in turns, so a slow moment of the machine meets all of them. Figures are CPU time of the calling
thread alone (`time.thread_time_ns`), in µs; what a variant adds is the median over the rounds of its difference to the
bare run beside it. A chunk is what a stream takes beyond a plain call, by the number of its chunks. "Behind it" is what
the other threads of the process take for a call that waits. Between two figures all threads come to rest.
Two shapes: "waiting" answers after 2 ms, as a (very fast) network would, so that background threads run while the
caller waits; "back to back" answers at once, so that they fight with the caller for the interpreter and its caches.
`--network 0.2` waits as long as a model takes for a short answer: the processor sleeps meanwhile, all caches are cold,
and whatever runs costs several times as much, the bare SDK as well as each of the others. Fewer calls are timed then.

Run: `python benchmarks/hot_path.py`, with benchmarks/requirements.txt installed for the other three.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

CHUNKS = 200
ROUNDS, PLAIN_CALLS, STREAMS = 21, 150, 15
# Seconds that a round of plain calls may wait in all.
ROUND_SECONDS = 3.0
# Other threads are at rest when they take less than a hundredth of this: longer than any of them waits for more work.
QUIET_SECONDS = 0.3
VARIANTS = {
    "bare": "openai",
    "otel-llmlog": "otel_llmlog",
    "genai-openai": "opentelemetry.instrumentation.genai.openai",
    "openinference": "openinference.instrumentation.openai",
    "openllmetry": "opentelemetry.instrumentation.openai",
}
_PLAIN = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello " * 20}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 200, "completion_tokens": 20, "total_tokens": 220},
}
_MESSAGES = [{"role": "user", "content": "What is a good name for a benchmark? " * 20}]


def chunks() -> list[bytes]:
    """A stream as it comes from the network: one event a piece."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini-2024-07-18"}
    events = [
        {**head, "choices": [{"index": 0, "delta": {"content": f"word{i} "}, "finish_reason": None}], "usage": None}
        for i in range(CHUNKS - 2)
    ]
    events.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": None})
    events.append({**head, "choices": [], "usage": _PLAIN["usage"]})
    return [b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n" for event in events] + [
        b"data: [DONE]\n\n"
    ]


def switch_on(variant: str) -> None:
    """Set up OpenTelemetry alike for all, and the variant's instrumentation."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, spans: object) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    trace.set_tracer_provider(provider)
    if variant == "otel-llmlog":
        from otel_llmlog import config, configure, emit
        from otel_llmlog.capture import patch
        from otel_llmlog.capture.counting import TokenCounter
        from otel_llmlog.capture.reading import Reader
        from otel_llmlog.capture.recorder import Recorder
        from otel_llmlog.pipeline.batch import BatchWorker
        from otel_llmlog.pipeline.processor import LLMLogSpanProcessor
        from otel_llmlog.pipeline.record import Delivery, Exporter, Record
        from otel_llmlog.pipeline.source import Source
        from otel_llmlog.pipeline.spool import Spool
        from otel_llmlog.pricing import Pricer
        from otel_llmlog.stats import Stats

        class Written(Exporter):
            def open(self) -> None: ...

            def export(self, records: list[Record]) -> Delivery:
                return Delivery(written=len(records))

            def close(self) -> None: ...

        settings, stats = config.load(), Stats()
        directory = tempfile.mkdtemp(prefix="llmlog-bench-")
        source = Source(Spool(directory, stats=stats), settings.pipeline.queue_size)
        worker = BatchWorker(Written(), source, settings.pipeline, stats)
        processor = LLMLogSpanProcessor(
            worker, settings.pipeline, settings.content, stats, lambda: "bench", lambda _: True
        )
        reader = Reader(settings, Pricer(), TokenCounter(), stats)
        recorder = Recorder(
            settings.capture,
            reader,
            emit.tracer(configure.VERSION),
            emit.Metrics(configure.VERSION),
            processor,
            stats,
        )
        provider.add_span_processor(processor)
        patch.install(recorder, inject_usage=False)
    elif variant != "bare":
        importlib.import_module(VARIANTS[variant]).OpenAIInstrumentor().instrument(tracer_provider=provider)


def worker(variant: str, network: float) -> None:
    """Run rounds on request: a line in, a line of figures out. `network`: seconds until an answer when waiting."""
    switch_on(variant)
    import httpx2
    import openai

    pieces, plain = chunks(), json.dumps(_PLAIN).encode()
    wait = [0.0]

    class Stream(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield from pieces

    def answer(request: httpx2.Request) -> httpx2.Response:
        if wait[0]:
            time.sleep(wait[0])
        if b'"stream":true' in request.content:
            return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Stream())
        return httpx2.Response(200, headers={"content-type": "application/json"}, content=plain)

    client = openai.OpenAI(
        base_url="http://127.0.0.1/v1",
        api_key="sk-benchmark",
        http_client=httpx2.Client(transport=httpx2.MockTransport(answer)),
    )

    def call() -> None:
        client.chat.completions.create(model="gpt-4o-mini", messages=_MESSAGES)

    def stream() -> None:
        options = {"include_usage": True}
        for _ in client.chat.completions.create(
            model="gpt-4o-mini", messages=_MESSAGES, stream=True, stream_options=options
        ):
            pass

    for _ in range(50):
        call()
    for _ in range(5):
        stream()
    print("ready", flush=True)
    for _ in sys.stdin:
        figures = []
        for wait[0] in (network, 0.0):
            share = min(1.0, ROUND_SECONDS / (wait[0] * PLAIN_CALLS or 1e-9))
            plainly, behind = timed(call, round(PLAIN_CALLS * share))
            figures += [plainly, (timed(stream, max(1, round(STREAMS * share)))[0] - plainly) / CHUNKS, behind]
        print(json.dumps(figures[:-1]), flush=True)
    os._exit(0)  # nothing is left to be flushed anywhere


def timed(function: Callable[[], None], number: int) -> tuple[float, float]:
    """CPU time for one call, µs: of this thread, and of all others until they are at rest again."""
    process, begin = time.process_time_ns(), time.thread_time_ns()
    for _ in range(number):
        function()
    own = time.thread_time_ns() - begin
    settle()
    all_threads = time.process_time_ns() - process - (time.thread_time_ns() - begin - own)
    return own / number / 1e3, (all_threads - own) / number / 1e3


def settle() -> None:
    """Wait until other threads have done what they have to do: a while in which they took next to no CPU time."""
    for _ in range(50):
        before, own = time.process_time_ns(), time.thread_time_ns()
        time.sleep(QUIET_SECONDS)
        if time.process_time_ns() - before - (time.thread_time_ns() - own) < QUIET_SECONDS * 1e9 / 100:
            return


def installed(module: str) -> bool:
    """Whether a variant can be measured here."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def main() -> None:
    """Drive all variants in turns and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--variant", choices=VARIANTS)
    parser.add_argument("--network", type=float, default=0.002, help="seconds until an answer, when waiting")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    if options.variant:
        worker(options.variant, options.network)
        return
    there = [name for name, module in VARIANTS.items() if installed(module)]
    running = {}
    for name in there:
        command = [sys.executable, __file__, "--variant", name, "--network", str(options.network)]
        running[name] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert running[name].stdout.readline() == "ready\n"
    figures: dict[str, list[list[float]]] = {name: [] for name in there}
    for _ in range(options.rounds):
        for name, process in running.items():
            process.stdin.write("go\n")
            process.stdin.flush()
            figures[name].append(json.loads(process.stdout.readline()))
    for process in running.values():
        process.stdin.close()
        process.wait(30)
    print(
        f"{'':14} {'waiting: plain':>16} {'a chunk':>16} {'behind it':>18}   {'back to back: plain':>19} {'a chunk':>16}"
    )
    for name, rounds in figures.items():
        added = [
            statistics.median(ours[at] - bare[at] for ours, bare in zip(rounds, figures["bare"], strict=True))
            for at in range(5)
        ]
        middle = [statistics.median(column) for column in zip(*rounds, strict=True)]
        cells = [f"{value:7.2f} {more:+8.2f}" for value, more in zip(middle, added, strict=True)]
        print(f"{name:14} {cells[0]} {cells[1]}  {cells[2]}      {cells[3]} {cells[4]}")
    for name in VARIANTS.keys() - set(there):
        print(f"{name}: not installed (pip install -r benchmarks/requirements.txt)")


if __name__ == "__main__":
    main()
