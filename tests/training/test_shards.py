"""Workers that hold their share of the videos each train and validate as one process does."""

import json
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
import torch.multiprocessing as mp

from raffect.affwild2.tasks import Split, Task
from raffect.context import Context
from raffect.engine import Share
from raffect.store import Store
from raffect.temporal.data import load_task_data
from raffect.temporal.inference import load_bundle, predict_split
from raffect.temporal.sharding import Sharding, choose_shards
from raffect.temporal.shared import shared_reader
from raffect.temporal.train import train
from raffect.temporal.training import Trainer
from raffect.training.checkpoints import CheckpointFolder
from raffect.training.ray_workers import train_on_workers
from raffect.training.reduce import LOCAL, GroupReducer
from tests.durability import processes
from tests.temporal.builders import NO_DROPOUT, fill, make_video, small_config

WORKERS, SHARES = 2, 3
SETTINGS = {
    **NO_DROPOUT,
    "segments__stride": 20,
    # So small that a share has no segment of some batches.
    "optimiser__batch_size": 2,
    "optimiser__shards": SHARES,
    "optimiser__epochs": 2,
    "losses__mse_share": 0.2,
    "losses__class_weight_power": 0.5,
    "losses__positive_weight_power": 0.5,
    "model__input": "zscore",
}
CASES = [(Task.VA, 1), (Task.AU, 2)]


def config_of(task, parts):
    more = {f"losses__auxiliary__{o.value}": 0.3 for o in Task if o is not task}
    return small_config(task, **SETTINGS, **more, optimiser__accumulation=parts)


def trained(store: Store, task: Task, parts: int, reducer) -> dict:
    data = load_task_data(store, "clip", task, tuple(Task))
    trainer = Trainer(config_of(task, parts), data, reducer)
    empty = sum(not len(own) for own in trainer._order.epoch(0))
    trainer._train_epoch()
    gradients = {n: p.grad.clone() for n, p in trainer.model.named_parameters()}
    trainer = Trainer(trainer.config, data, reducer)
    results = [trainer.run_epoch() for _ in range(2)]
    return {
        "gradients": gradients,
        "losses": [result.loss for result in results],
        "scores": [result.score for result in results],
        "state": trainer.model.state_dict(),
        "rows": len(trainer._resident.held.features),
        "empty": empty,
    }


def work(rank: int, folder: str, uri: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORKERS
    )
    found = [trained(Store(uri), *of, GroupReducer()) for of in CASES]
    torch.save(found, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_workers_train_and_validate_as_one_process_does(small_store, tmp_path):
    mp.spawn(work, (str(tmp_path), small_store.uri), nprocs=WORKERS)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(WORKERS)]
    # Otherwise that of a worker without segments would not be tested.
    assert sum(rank[0]["empty"] for rank in ranks)
    for i, (task, _) in enumerate(CASES):
        alone = trained(small_store, task, 1, LOCAL)
        assert sum(rank[i]["rows"] for rank in ranks) == alone["rows"]
        for rank in ranks:
            assert rank[i]["losses"] == pytest.approx(alone["losses"], abs=1e-5)
            for name, expected in alone["gradients"].items():
                found = rank[i]["gradients"][name]
                torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
        # The score of the same weights, by a model that has all videos.
        exact = small_config(task, **{**SETTINGS, "optimiser__shards": 1})
        whole = Trainer(exact, load_task_data(small_store, "clip", task))
        own = {k: v for k, v in ranks[0][i]["state"].items() if k in whole.model.state_dict()}
        whole.model.load_state_dict(own)
        assert whole.validate().score.value == pytest.approx(ranks[0][i]["scores"][-1], abs=1e-6)


DIM, FRAMES = 512, 1_000


def many_videos() -> list:
    rng = np.random.default_rng(0)
    videos = []
    for split, count in (("train", 40), ("validation", 16)):
        for i in range(count):
            length = int(rng.integers(FRAMES // 4, FRAMES))
            own = make_video(f"{split}-{i:02d}", Split(split), length, 100 * i + len(split))
            wide = rng.normal(size=(len(own.frames), DIM)).astype(np.float32)
            videos.append(type(own)(own.name, own.frames, wide, own.labels))
    return videos


class Measured(Trainer):
    """Leaves word of the features that it holds, and of what of its memory is its own."""

    def __init__(self, folder, config, data, reducer, device):
        super().__init__(config, data, reducer, device)
        # Once more, in a process that has imported and allocated all else.
        before = own_memory()
        again = self._shares.hold(self.data)
        facts = {
            "features": sum(t.nbytes for t in self._resident.train.features.tensors),
            "own": own_memory() - before,
            "again": again.features.nbytes,
        }
        Path(folder, f"{reducer.size}-{reducer.rank}.json").write_text(json.dumps(facts))


def own_memory() -> int:
    """Bytes of this process that no other shares."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


@pytest.mark.ray
@pytest.mark.long
def test_the_features_that_a_worker_holds_fall_as_one_by_their_number(store, ray_local, tmp_path):
    fill(store, many_videos())
    data = load_task_data(store, "clip", Task.VA, read=shared_reader(None))
    total = len(data.features) * DIM * 2
    reference = ray.put(data)
    for workers in (2, 4):
        config = small_config(Task.VA, optimiser__epochs=1, optimiser__shards=workers)
        checkpoints = CheckpointFolder(store, f"models/m{workers}/checkpoint")
        make = partial(Measured, str(tmp_path), config)
        share = Share(0.4 / workers, 0)
        train_on_workers(make, reference, workers, share, checkpoints, type, print)
        found = [json.loads(p.read_text()) for p in tmp_path.glob(f"{workers}-*.json")]
        assert len(found) == workers
        assert sum(one["features"] for one in found) == total
        for one in found:
            assert one["features"] == pytest.approx(total / workers, rel=0.15)
            # Nothing of what was fetched is kept beside it.
            assert one["own"] == pytest.approx(one["again"], rel=0.1, abs=2e6)


@pytest.mark.ray
@pytest.mark.long
def test_the_same_seed_and_workers_give_the_same_model_also_after_a_worker_is_lost(
    small_store, ray_local
):
    config = small_config(Task.EXPR, optimiser__epochs=3)
    shared, said, killed = Sharding(wanted=True), [], []
    context = Context(on_note=said.append)

    def kill(result, total):
        if not killed:
            killed.extend(processes.titled(processes.descendants(os.getpid()), b"ray::RayTrain"))
            processes.kill(killed[-1:])

    train(small_store, config, "clip", "one", 2, context=context, sharding=shared)
    train(small_store, config, "clip", "two", 2, kill, context, sharding=shared)
    assert killed
    files = [small_store.read_bytes(f"models/{n}/model.safetensors") for n in ("one", "two")]
    assert files[0] == files[1]
    bundle = load_bundle(small_store, "models/one")
    assert bundle.config.optimiser.shards == 2
    assert predict_split(small_store, bundle, Split.VALIDATION)
    assert not any("object store" in line for line in said)


@pytest.mark.ray
@pytest.mark.long
def test_features_that_are_too_large_for_the_object_store_are_shared_out_and_it_is_said(
    small_store, ray_local
):
    config, said = small_config(Task.VA, optimiser__epochs=4), []
    context = Context(on_note=said.append)

    class StopError(Exception):
        pass

    def stop(result, total):
        if result.epoch == 2:
            raise StopError

    with pytest.raises(StopError):
        train(small_store, config, "clip", "m", 2, stop, context, sharding=Sharding(above=1e-9))
    assert len([line for line in said if "each of the 2 workers holds its share" in line]) == 1
    # It goes on as it began, whatever would be found now, and by one process, too.
    manifest = train(small_store, config, "clip", "m")
    assert manifest.config["optimiser"]["shards"] == 2
    # Half of an object store is more than enough for so few features.
    plain = choose_shards(small_store, config, "clip", 2, Sharding(), None, context)
    assert plain.optimiser.shards == 1
