"""Two real processes with gloo must train as one does: losses, gradients, scores."""

from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp

from raffect.affwild2.tasks import Task
from raffect.store import Store
from raffect.temporal.data import load_task_data
from raffect.temporal.training import Trainer
from raffect.training.reduce import LOCAL, GroupReducer
from tests.temporal.builders import NO_DROPOUT, small_config

# 5 segments per batch, unevenly shared; a last batch too small for one of the workers.
SETTINGS = {
    **NO_DROPOUT,
    "segments__stride": 20,
    "optimiser__batch_size": 5,
    "optimiser__epochs": 2,
    "losses__mse_share": 0.2,
    "losses__class_weight_power": 0.5,
    "losses__positive_weight_power": 0.5,
}
CASES = {
    task: {
        **SETTINGS,
        **{f"losses__auxiliary__{o.value}": 0.3 for o in Task if o is not task},
    }
    for task in Task
}


def first_gradients(store: Store, task: Task, reducer, parts: int, head: str) -> dict:
    more = {"optimiser__accumulation": parts, "model__head": head}
    if head == "batchnorm":
        # See BatchNorm: larger steps along rounding would show in the score.
        more["optimiser__lr"] = 1e-6
    config = small_config(task, **CASES[task], **more)
    data = load_task_data(store, "clip", task, tuple(Task))
    trainer = Trainer(config, data, reducer)
    trainer._train_epoch()
    gradients = {n: p.grad.clone() for n, p in trainer.model.named_parameters()}
    trainer = Trainer(config, data, reducer)
    results = [trainer.run_epoch() for _ in range(2)]
    return {
        "gradients": gradients,
        "losses": [result.loss for result in results],
        "scores": [result.score for result in results],
        # The keys' bias has no gradient but rounding, which Adam scales up to whole steps.
        "weights": {k: v for k, v in trainer.model.state_dict().items() if "in_proj" not in k},
        "remainder": len(trainer._segments) % 5,
    }


def cases_of(parts: int) -> list[tuple[Task, int, str]]:
    return [*((task, parts, "relu") for task in Task), (Task.EXPR, 1, "batchnorm")]


def work(rank: int, size: int, folder: str, uri: str, parts: int) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size
    )
    group = GroupReducer()
    found = [first_gradients(Store(uri), task, group, *of) for task, *of in cases_of(parts)]
    torch.save(found, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("parts", [pytest.param(1, marks=pytest.mark.long), 2])
@pytest.mark.slow
def test_two_workers_train_as_one(small_store, tmp_path, parts):
    """Also where each passes its share of a batch in parts, and with batch norm."""
    mp.spawn(work, (2, str(tmp_path), small_store.uri, parts), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2)]
    for i, (task, _, head) in enumerate(cases_of(parts)):
        alone = first_gradients(small_store, task, LOCAL, 1, head)
        # Otherwise the case of a worker without segments would not be tested.
        assert alone["remainder"] == 1
        for rank in ranks:
            assert rank[i]["losses"] == pytest.approx(alone["losses"], abs=1e-5)
            assert rank[i]["scores"] == pytest.approx(alone["scores"], abs=1e-5)
            for kind in ("gradients", "weights"):
                for name, expected in alone[kind].items():
                    torch.testing.assert_close(rank[i][kind][name], expected, atol=1e-5, rtol=1e-4)


def test_one_process_reduces_nothing():
    values = torch.ones(3, requires_grad=True)
    assert LOCAL.sum(values) is values
    assert LOCAL.wrap(module := torch.nn.Linear(1, 1)) is module
    assert (LOCAL.rank, LOCAL.size) == (0, 1)
