"""A mixture's lineage as OpenLineage run events (specification 2-0-2, https://openlineage.io/spec), oldest first.

Every materialisation is a run of a job of the asset's name, with a START and a COMPLETE event; artefacts are datasets
of the namespace `automixer`, versioned by content, source files datasets of the namespace `file`. What the
specification has no facet for is in facets with the prefix `automixer_`.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid5

from automixer_assets import __version__
from automixer_assets.lineage_graph import Lineage, Node, Source, file_size

NAMESPACE = "automixer"
PRODUCER = f"urn:automixer-assets:{__version__}"
SPEC = "https://openlineage.io/spec"
EVENT_SCHEMA = f"{SPEC}/2-0-2/OpenLineage.json"

Document = dict[str, Any]


def run_events(lineage: Lineage) -> Iterator[Document]:
    """START and COMPLETE of every materialisation, what was read before what read it."""
    for node in reversed(lineage.nodes.values()):
        made = datetime.datetime.fromtimestamp(node.event.timestamp, datetime.UTC)
        started = made - datetime.timedelta(seconds=node.event.seconds)
        for kind, time in (("START", started), ("COMPLETE", made)):
            yield {
                "eventType": kind,
                "eventTime": time.isoformat(timespec="milliseconds"),
                "producer": PRODUCER,
                "schemaURL": f"{EVENT_SCHEMA}#/$defs/RunEvent",
                "run": _run(node),
                "job": _job(node),
                "inputs": _inputs(lineage, node),
                "outputs": [_output(node)],
            }


def _run(node: Node) -> Document:
    event = node.event
    facets = {
        "parent": _facet(
            f"{SPEC}/facets/1-2-0/ParentRunFacet.json#/$defs/ParentRunFacet",
            run={"runId": event.run_id},
            job={"namespace": "dagster", "name": event.asset},
        ),
        "automixer_settings": _facet(
            f"{EVENT_SCHEMA}#/$defs/RunFacet", settings=event.settings, settingsSlice=event.settings_slice
        ),
    }
    if event.program is not None:
        facets["processing_engine"] = _facet(
            f"{SPEC}/facets/1-1-1/ProcessingEngineRunFacet.json#/$defs/ProcessingEngineRunFacet",
            name="automixer-assets",
            version=str(event.program["version"]),
        )
    if node.training_step is not None:
        facets["automixer_trainingStep"] = _facet(f"{EVENT_SCHEMA}#/$defs/RunFacet", **node.training_step)
    return {"runId": str(uuid5(UUID(event.run_id), str(event.storage_id))), "facets": facets}


def _job(node: Node) -> Document:
    kind = _facet(
        f"{SPEC}/facets/2-0-4/JobTypeJobFacet.json#/$defs/JobTypeJobFacet",
        processingType="BATCH",
        integration="DAGSTER",
        jobType="ASSET",
    )
    code = _facet(f"{EVENT_SCHEMA}#/$defs/JobFacet", codeVersion=node.event.code_version)
    return {"namespace": NAMESPACE, "name": node.event.asset, "facets": {"jobType": kind, "automixer_code": code}}


def _inputs(lineage: Lineage, node: Node) -> list[Document]:
    return [
        *(_dataset(lineage.nodes[storage_id]) for storage_id in node.inputs),
        *(_source(source) for source in node.sources),
    ]


def _dataset(node: Node) -> Document:
    artifact = _facet(
        f"{EVENT_SCHEMA}#/$defs/DatasetFacet",
        asset=node.event.asset,
        partition=node.event.partition,
        materialisation=node.event.storage_id,
        uri=node.event.uri,
    )
    return {
        "namespace": NAMESPACE,
        "name": node.name,
        "facets": {"version": _version(node.event.sha256), "automixer_artifact": artifact},
    }


def _output(node: Node) -> Document:
    artifact = node.artifact
    if artifact is None:
        return _dataset(node)
    files = [
        {"name": name, "sha256": sha256, "bytes": file_size(artifact, name)} for name, sha256 in artifact.files.items()
    ]
    facet = _facet(f"{EVENT_SCHEMA}#/$defs/OutputDatasetFacet", files=files)
    return {**_dataset(node), "outputFacets": {"automixer_files": facet}}


def _source(source: Source) -> Document:
    return {"namespace": "file", "name": source.path, "facets": {"version": _version(source.sha256)}}


def _version(digest: str) -> Document:
    return _facet(
        f"{SPEC}/facets/1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet", datasetVersion=digest
    )


def _facet(schema: str, **fields: Any) -> Document:
    return {"_producer": PRODUCER, "_schemaURL": schema, **fields}
