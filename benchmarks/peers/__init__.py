"""Other attribution libraries on the same model, documents, layers and query as ours: `make bench-peers`.

Read `case.py` (what all are given), then `measure.py` (how they are timed), then one file of `adapters`: each says
which interface of the library it drives and how that was configured in the library's favour.
"""
