"""The formats by name. A format's module is imported only when it is used: some need a library of their own."""

from __future__ import annotations

import difflib
from importlib import import_module

from automixer_assets.errors import ConfigurationError
from automixer_assets.export.format import Format

FORMATS: dict[str, str] = {
    "megatron": "automixer_assets.export.megatron:Megatron",
    "hf": "automixer_assets.export.hugging_face:HuggingFace",
    "mosaicml": "automixer_assets.export.mosaicml:MosaicML",
    "olmo-core": "automixer_assets.export.olmo_core:OlmoCore",
    "litdata": "automixer_assets.export.litdata:LitData",
    "grain": "automixer_assets.export.grain:Grain",
    "torchtitan": "automixer_assets.export.torchtitan:Torchtitan",
    "levanter": "automixer_assets.export.levanter:Levanter",
    "nanotron": "automixer_assets.export.nanotron:Nanotron",
}
"""Name -> module and class."""


def load_format(name: str) -> Format:
    """The format of that name; raises ConfigurationError where there is none."""
    if name not in FORMATS:
        close = difflib.get_close_matches(name, FORMATS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigurationError(f"no export format is called {name!r}{hint} (there are: {', '.join(FORMATS)})")
    module, _, attribute = FORMATS[name].partition(":")
    return getattr(import_module(module), attribute)()
