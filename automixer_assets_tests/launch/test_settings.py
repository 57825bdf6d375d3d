"""Launchers in the settings: local unless asked for, and a clear refusal of what a stage cannot do."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from automixer_assets.settings.launchers import Launchers, RayCluster, Torchrun

STAGES = ("scoring", "corpus", "mixture")


def test_everything_is_local_by_default() -> None:
    assert [getattr(Launchers(), stage) for stage in STAGES] == ["local"] * len(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_ray_is_accepted(stage: str) -> None:
    assert Launchers.model_validate({stage: "ray", "ray": {"workers": 4}}).ray.workers == 4


@pytest.mark.parametrize("stage", STAGES)
def test_torchrun_is_refused_for_shards(stage: str) -> None:
    with pytest.raises(ValidationError, match=rf"launchers.{stage} is 'torchrun'.*choose one of local, ray"):
        Launchers.model_validate({stage: "torchrun"})


def test_a_launcher_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValidationError, match="'local', 'torchrun' or 'ray'"):
        Launchers.model_validate({"scoring": "slurm"})


@pytest.mark.parametrize(
    "wrong",
    [{"workers": 0}, {"cpu_workers": 0}, {"cpus_per_worker": 0}, {"gpus_per_worker": -1}, {"patience_seconds": 0}],
)
def test_impossible_workers_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Launchers.model_validate({"ray": wrong})


def test_a_job_server_is_a_url() -> None:
    assert RayCluster(job_server="https://ray.example:443/").job_server == "https://ray.example:443"


@pytest.mark.parametrize("wrong", ["head:8265", "ray://head:10001", "http://", "http://head:8265?token=a", "auto"])
def test_what_is_no_url_of_a_job_server_is_refused(wrong: str) -> None:
    with pytest.raises(ValidationError, match=r"launchers\.ray\.job_server .* is no http or https URL"):
        RayCluster(job_server=wrong)


def test_a_password_in_the_settings_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValidationError, match="RAY_AUTH_TOKEN") as refused:
        RayCluster(job_server="http://me:hunter2@head:8265")
    assert "hunter2" not in refused.value.errors(include_input=False)[0]["msg"]


def test_one_way_to_the_cluster_is_enough() -> None:
    with pytest.raises(ValidationError, match="both address and job_server"):
        RayCluster(address="head:6379", job_server="http://head:8265")


def test_mixtures_are_not_sent_to_a_job_server() -> None:
    with pytest.raises(ValidationError, match=r"launchers\.mixture: ray needs a cluster that is joined"):
        Launchers.model_validate({"mixture": "ray", "ray": {"job_server": "http://head:8265"}})


def test_stages_without_gpus_ask_for_none() -> None:
    plain = RayCluster(workers=2, gpus_per_worker=1).without_gpus()
    assert (plain.workers, plain.gpus_per_worker) == (2, 0)
    assert RayCluster(workers=2, cpu_workers=16).without_gpus().workers == 16


def test_torchrun_is_accepted_for_training_with_its_processes() -> None:
    launchers = Launchers.model_validate({"training": "torchrun", "torchrun": {"processes": 4, "sharded": True}})
    assert launchers.trained_by == Torchrun(processes=4, sharded=True)
    assert Launchers.model_validate({"torchrun": {"processes": 4}}).trained_by is None, "training is local"


def test_torchrun_without_a_number_of_processes_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"training: torchrun needs `torchrun: \{processes: N\}`"):
        Launchers.model_validate({"training": "torchrun"})


def test_ray_is_refused_for_training() -> None:
    with pytest.raises(ValidationError, match=r"launchers.training is 'ray'.*choose one of local, torchrun"):
        Launchers.model_validate({"training": "ray"})


def test_only_several_processes_change_the_identity() -> None:
    assert Torchrun(processes=1, sharded=True).identity is None
    identities = [Torchrun(processes=n, sharded=sharded).identity for n in (2, 3) for sharded in (False, True)]
    assert len({str(identity) for identity in identities}) == 4


def test_a_batch_is_shared_equally_or_refused() -> None:
    launchers = Launchers.model_validate({"training": "torchrun", "torchrun": {"processes": 4}})
    launchers.require_equal_shares({"proxies.demo": 8, "targets": 4})
    with pytest.raises(ValueError, match=r"^targets\.training\.batch_size is 6, which .*processes, 4, does not divide"):
        launchers.require_equal_shares({"proxies.demo": 8, "targets": 6})
    Launchers().require_equal_shares({"proxies.demo": 7})
