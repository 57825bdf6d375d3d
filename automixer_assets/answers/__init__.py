"""Answers about a finished mixture: is it what it says (verify), why is it another one (diff), why this document.

Everything is read through the manifest's pins, never from what happens to be the latest. `find` looks pins up in
Dagster's events; the rest of the package works on folders alone.
"""
