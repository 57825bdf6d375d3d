"""How well do scores predict what documents do? python -m benchmarks.influence_quality --help

Questions
    LDS: when a model is trained anew on a random half of the documents, does the sum of the half's scores rank the
        losses that result? (linear datamodelling score: Spearman over the halves, per task, then the mean over tasks)
    noise AUC: does a clean document score above a corrupted one?
    one step: does a document's score rank the change of a task's loss after one gradient step on it alone?
    Each for the influence scores, their blends with a lexical score, and what costs nothing: BM25, n-gram overlap,
    perplexity, length, random. Two worlds: the micro-world, and real text of known source.

Data flow, one study = one world under one seed, all files below --out/<world>/seed-<n>/
    worlds.py      documents, tasks, their tokens           nothing on disk: the seed says it all
    retraining.py  halves -> models -> losses of the tasks   retrained/<run>-<half>.json, one per model: resumable
    scoring.py     full model -> utility per document        scores.parquet (method, task, document, utility)
    one_step.py    full model -> loss changes                one_step.parquet
    estimates.py   both -> correlations with bootstrap intervals, paired between methods
    report.py      studies of one world -> Markdown tables

Every document is one training sequence and weighs the same (the mean loss over its tokens), so that the objective is
the sum whose derivative the paper's influence is. All models of a study share initial weights and, for the documents
they have in common, the order of the data; a second run under other weights and order shows how much of a loss is
chance, and so what no score can predict (the seed ceiling).
"""
