"""The units of work of a pipeline, stage by stage, with what each costs.

A unit is one materialisation. Its seconds are operations over the measured speed of its kind of pass, or an amount
over the measured speed of its kind of work, as `constants.py` has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from automixer_assets.planning import flops, memory
from automixer_assets.planning.constants import Constants, PassKind, WorkKind
from automixer_assets.planning.costs import Cost, Unit
from automixer_assets.planning.flops import NOTHING, Shape, Texts
from automixer_assets.planning.workload import SnapshotSize, Workload, most_checkpoints, web_texts
from automixer_assets.settings import Mixture, Proxy, Recipe, Targets, Training

BATCH_TOKENS = 4096
"""As `assets.influence` runs passes."""
ID_BYTES, ROW_BYTES = 20, 120
"""Of a document in a compressed table: its id alone, and with the columns that an inventory carries."""
WORK_MEMORY = 2**30
"""Of what runs without a model: .74 GiB were measured at 100 million documents (benchmarks/RESULTS.md)."""
SAMPLED_DOCUMENTS, REFERENCE_PASSES = 512, 2.4
"""Of `item_contributions`: documents per group, and passes over the reference sample."""


@dataclass(frozen=True)
class Stages:
    """Everything that the settings ask for, whatever is there already."""

    work: Workload
    constants: Constants

    def units(self) -> list[Unit]:
        return [*self._corpus(), *self._proxies(), *self._mixtures(), *self._targets()]

    def of_snapshot(self, size: SnapshotSize) -> Iterator[Unit]:
        """What one inventoried snapshot costs before any model sees it."""
        tables = size.documents * ROW_BYTES
        yield self._texts("tokenized_corpus", "tokenizing", size, size.tokens * self.work.token_bytes + tables)
        yield self._texts("leakage", "leakage", size, size.documents * ID_BYTES)
        if self._lexical():
            columns = 16 * (len(self.work.tasks) + 1)
            yield self._texts("lexical_scores", "lexical", size, size.documents * (ID_BYTES + columns))

    def _texts(self, stage: str, kind: WorkKind, size: SnapshotSize, written: float) -> Unit:
        """A stage that reads every text of a snapshot, shard by shard."""
        seconds = self.constants.work_seconds(kind, size.text_bytes, self.work.shards(size))
        cost = Cost(size.tokens, 0, seconds, size.text_bytes, written, WORK_MEMORY)
        return Unit(stage, size.name, cost, {"snapshot": size.name})

    def scores(self, name: str, proxy: Proxy, checkpoint: str | None, size: SnapshotSize) -> Unit:
        """Scoring one snapshot at one checkpoint: the shards can be shared by any number of processes."""
        shape = self.work.shape(proxy)
        directions = sum(self.work.directions(name).values())
        texts = web_texts(size, proxy.training.sequence_length)
        rows = size.documents * (ID_BYTES + 4 * (directions + 2))
        cost = self._pass(
            "scoring",
            shape,
            flops.scoring(shape, texts, directions),
            tokens=size.tokens,
            bytes_read=size.tokens * self.work.token_bytes + memory.query(shape, directions),
            bytes_written=rows,
            memory=memory.scoring(shape, directions, BATCH_TOKENS),
            pieces=self.work.shards(size),
        )
        labels = {"snapshot": size.name, "proxy": name} | ({"checkpoint": checkpoint} if checkpoint else {})
        partition = f"{checkpoint}|{size.name}" if checkpoint else None
        return Unit(f"{name}/checkpoint_influence", partition, cost, labels, accelerator=True)

    def joint(self, name: str, recipe: Recipe, size: SnapshotSize) -> Unit:
        """One row per document and one column per group."""
        rows = size.documents * max(1, self._groups(recipe))
        seconds = self.constants.work_seconds("joint", rows, self.work.shards(size))
        directions = len(self.work.tasks)
        read = rows * (ID_BYTES + 4 * (directions + 2)) if recipe.uses_checkpoints else size.documents * ROW_BYTES
        written = size.documents * (ID_BYTES + 8 * (self._groups(recipe) + 2))
        cost = Cost(size.tokens, 0, seconds, read, written, WORK_MEMORY)
        return Unit("joint_influence", f"{name}|{size.name}", cost, {"snapshot": size.name, "recipe": name})

    def mixture(self, name: str, mixture: Mixture) -> Iterator[Unit]:
        """Groups and weights over the union of the mixture's snapshots: one process, whatever the workers."""
        recipe = self.work.settings.recipe(mixture.recipe)
        size, groups = self.mixed(mixture), max(1, self._groups(recipe))
        labels = {"mixture": name, "recipe": mixture.recipe} | ({"proxy": recipe.proxy} if recipe.proxy else {})
        rows, kept = size.documents * groups, size.documents * groups * mixture.top_share
        shards = self._shards(mixture)
        read, written = rows * 8 + size.documents * ID_BYTES, kept * (ID_BYTES + 24)
        seconds = self.constants.work_seconds("grouping", rows, shards)
        yield Unit("grouped_shards", name, Cost(size.tokens, 0, seconds, read, written, WORK_MEMORY), labels)
        if self.work.settings.resamples_items(name) and recipe.proxy in self.work.trained():
            yield Unit("item_contributions", name, self._contributions(recipe, groups), labels, accelerator=True)
        seconds = self.constants.work_seconds("weighing", rows, shards)
        yield Unit("weight_manifest", name, Cost(size.tokens, 0, seconds, written, 0, WORK_MEMORY), labels)
        if mixture.exports:
            yield Unit("trainer_exports", name, self._exports(mixture, size, groups), labels)

    def mixed(self, mixture: Mixture) -> SnapshotSize:
        names = [each.name for each in self.work.snapshots] if mixture.snapshots == "all" else mixture.snapshots
        return self.work.together(list(names))

    def _corpus(self) -> Iterator[Unit]:
        for size in self.work.snapshots:
            yield self._texts("snapshot_inventory", "inventory", size, size.documents * ROW_BYTES)
        chosen = self.work.settings.tokenizer
        if chosen.snapshots:
            size = self.work.together(chosen.snapshots)
            share = min(1.0, chosen.max_documents / max(size.documents, 1))
            text_bytes = size.text_bytes * share
            seconds = self.constants.work_seconds("tokenizer", text_bytes)
            cost = Cost(size.tokens * share, 0, seconds, text_bytes, 0, text_bytes)
            yield Unit("tokenizer", None, cost, snapshots=frozenset(chosen.snapshots))
        for size in self.work.snapshots:
            yield from self.of_snapshot(size)

    def _proxies(self) -> Iterator[Unit]:
        for name, proxy in self.work.trained().items():
            shape, labels = self.work.shape(proxy), {"proxy": name}
            trained_on = frozenset(proxy.snapshots)
            cost = self._training(shape, proxy)
            yield Unit(f"{name}/proxy_run", None, cost, labels, accelerator=True, snapshots=trained_on)
            cost = self._evaluation(shape, len(proxy.checkpoint_steps), final=False)
            yield Unit(f"{name}/benchmark_table", None, cost, labels, accelerator=True, snapshots=trained_on)
            for checkpoint in self.work.checkpoints.get(name, ()):
                labels = {"proxy": name} | ({"checkpoint": checkpoint} if checkpoint else {})
                cost = self._query(name, proxy, shape)
                read = trained_on | set(self.work.settings.reference_sample.snapshots)
                yield Unit(f"{name}/influence_query", checkpoint, cost, labels, accelerator=True, snapshots=read)
            for checkpoint in self.work.checkpoints.get(name, ()):
                for size in self.work.snapshots:
                    yield self.scores(name, proxy, checkpoint, size)

    def _mixtures(self) -> Iterator[Unit]:
        for name, recipe in self.work.settings.recipes.items():
            for size in self.work.snapshots:
                yield self.joint(name, recipe, size)
        for name, mixture in self.work.settings.mixtures.items():
            yield from self.mixture(name, mixture)

    def _targets(self) -> Iterator[Unit]:
        targets = self.work.settings.targets
        if targets is None:
            return
        for name in dict.fromkeys([targets.baseline, *targets.mixtures]):
            mixture = self.work.settings.mixture(name)
            labels = {"mixture": name, "recipe": mixture.recipe}
            yield Unit("target_runs", name, self._target(targets), labels, accelerator=True)

    def _pass(self, kind: PassKind, shape: Shape, operations: float, opened: int = 1, **fields: Any) -> Cost:
        """A pass over texts, with so many checkpoints opened."""
        speed = self.constants.pass_speed(kind, shape).flops_per_second
        return Cost(flops=operations, seconds=operations / speed + self.constants.load_seconds * opened, **fields)

    def _training(self, shape: Shape, run: Proxy | Targets) -> Cost:
        """One run: packed sequences, a checkpoint at every kept step, its resume state on the way."""
        training = run.training
        texts = Texts.of([training.sequence_length]).times(training.steps * training.batch_size)
        operations = flops.training(shape, texts, recomputed=training.activation_checkpointing)
        state = 3 * memory.FLOAT * shape.parameters  # weights and two moments
        kept = len(run.checkpoint_steps) * memory.FLOAT * shape.parameters
        return self._pass(
            "training",
            shape,
            operations,
            tokens=training.tokens,
            bytes_read=training.tokens * self.work.token_bytes,
            bytes_written=kept + state * (training.steps // training.resume_every),
            memory=memory.training(
                shape, _micro_batch(training), training.precision, recomputed=training.activation_checkpointing
            ),
            pieces=training.batch_size,
        )

    def _evaluation(self, shape: Shape, checkpoints: int, *, final: bool) -> Cost:
        texts = NOTHING
        for task in self.work.tasks.values():
            texts = texts.plus(task.item.times(task.final if final else task.selection))
        texts = texts.times(checkpoints)
        weights = memory.FLOAT * shape.parameters
        return self._pass(
            "evaluation",
            shape,
            flops.evaluation(shape, texts),
            opened=checkpoints,
            tokens=texts.inputs,
            bytes_read=checkpoints * weights,
            bytes_written=0,
            memory=weights + self.work.settings.tasks.batch_size * self._longest() * memory.activations(shape),
        )

    def _longest(self) -> float:
        return max((task.item.inputs / max(task.item.windows, 1) for task in self.work.tasks.values()), default=0)

    def _query(self, name: str, proxy: Proxy, shape: Shape) -> Cost:
        """Every curvature's fit, and the reference sample's own scores."""
        reference = self._reference(proxy.training.sequence_length)
        directions = self.work.directions(name)
        operations = tokens = 0.0
        for curvature, count in directions.items():
            items = self._items(self.work.settings.recipes_of(name).values(), curvature)
            operations += flops.validation_gradients(shape, items)
            operations += flops.CURVATURES[curvature](shape, reference, count)
            tokens += items.inputs + {"datainf": 2, "kfac": 1, "identity": 0}[curvature] * reference.inputs
        both = sum(directions.values())
        return self._pass(
            "fitting",
            shape,
            operations + flops.scoring(shape, reference, both),
            tokens=tokens + reference.inputs,
            bytes_read=memory.FLOAT * shape.parameters,
            bytes_written=2 * memory.query(shape, both),
            memory=memory.fitting(shape, both, BATCH_TOKENS),
        )

    def _items(self, recipes: Any, curvature: str) -> Texts:
        """The gradient items of every query text that some recipe asks for under this curvature."""
        texts = NOTHING
        for query in {each.query for each in recipes if each.uses_checkpoints and each.curvature == curvature}:
            for task in self.work.tasks.values():
                texts = texts.plus(task.gradient if query == "sequence" else task.answers)
        return texts

    def _reference(self, context: int) -> Texts:
        chosen = self.work.settings.reference_sample
        size = self.work.together(chosen.snapshots)
        return web_texts(size, context).times(min(chosen.documents, size.documents) / max(size.documents, 1))

    def _contributions(self, recipe: Recipe, groups: int) -> Cost:
        """Per checkpoint a pass over a sample of every group, the reference sample and the items."""
        proxy = self.work.trained()[str(recipe.proxy)]
        shape, context = self.work.shape(proxy), proxy.training.sequence_length
        size = self.work.together([each.name for each in self.work.snapshots])
        sampled = web_texts(size, context).times(groups * SAMPLED_DOCUMENTS / max(size.documents, 1))
        texts = sampled.plus(self._reference(context).times(REFERENCE_PASSES)).plus(
            self._items([recipe], recipe.curvature)
        )
        texts = texts.times(groups)
        cost = flops.scoring(shape, texts, 1)
        return self._pass("scoring", shape, cost, tokens=texts.inputs, memory=memory.fitting(shape, 1, BATCH_TOKENS))

    def _exports(self, mixture: Mixture, size: SnapshotSize, groups: int) -> Cost:
        """Every kept document of every group, once per format."""
        formats = len(mixture.exports)
        tokens = size.tokens * mixture.top_share * groups * formats
        moved = tokens * self.work.token_bytes
        seconds = self.constants.work_seconds("export", tokens)
        return Cost(tokens, 0, seconds, moved, moved, WORK_MEMORY)

    def _target(self, targets: Targets) -> Cost:
        """All seeds of one mixture, trained and judged on the final items."""
        shape = Shape.of(targets.architecture, self.work.vocabulary)
        run = self._training(shape, targets)
        judged = self._evaluation(shape, len(targets.checkpoint_steps), final=True)
        seeds = len(targets.seeds)
        return Cost(
            tokens=seeds * (run.tokens + judged.tokens),
            flops=seeds * (run.flops + judged.flops),
            seconds=seeds * (run.seconds + judged.seconds),
            bytes_read=seeds * (run.bytes_read + judged.bytes_read),
            bytes_written=seeds * run.bytes_written,
            memory=max(run.memory, judged.memory),
        )

    def _groups(self, recipe: Recipe) -> int:
        """Groups of a recipe: the checkpoints that it selects, or those that its strategy names."""
        if recipe.strategy.origins is not None:
            return len(recipe.strategy.origins(recipe.options))
        proxy = self.work.settings.proxy(str(recipe.proxy))
        known = len(self.work.checkpoints.get(str(recipe.proxy), ()))
        kept = proxy.checkpoints if isinstance(proxy, Proxy) else known
        return min(known, most_checkpoints(recipe, kept, len(self.work.tasks)))

    def _shards(self, mixture: Mixture) -> int:
        names = [each.name for each in self.work.snapshots] if mixture.snapshots == "all" else mixture.snapshots
        return sum(self.work.shards(size) for size in self.work.snapshots if size.name in names)

    def _lexical(self) -> bool:
        settings = self.work.settings
        filtered = any(mixture.filter is not None for mixture in settings.mixtures.values())
        return filtered or any(recipe.strategy.lexical for recipe in settings.recipes.values())


def _micro_batch(training: Training) -> int:
    return min(training.batch_size, training.micro_batch_size or training.batch_size) * training.sequence_length
