"""Capture: sees every LLM call that leaves the process over httpx or httpx2, and changes nothing about it.

On the app's thread a call is recognised, its span started, references to bytes and times kept. All else (decoding,
pricing, attributes, ending the span) happens on a background thread.
"""
