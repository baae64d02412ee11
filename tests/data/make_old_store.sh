#!/usr/bin/env bash
# Makes store-0.1.tar.xz: make_old_store.sh CHECKOUT PYTHON (see README.md beside it).
#
# As root, for a host name of its own: sweeps and leases keep the host's. All paths are relative,
# and its folder has a neutral name.
set -euo pipefail
if [[ -z "${RAFFECT_OLD_STORE:-}" ]]; then
    export RAFFECT_OLD_STORE=1
    exec unshare --uts "$0" "$(realpath "$1")" "$2"
fi
hostname raffect-old
checkout=$1 python=$2 data=$(realpath "$(dirname "$0")") place=/srv/raffect-old
export PYTHONPATH=$checkout OMP_NUM_THREADS=1
rm -rf "$place"
mkdir -p "$place"
cd "$place"
cp "$data/old_store_space.py" space.py
raffect() { "$python" -m raffect "$@" --store store; }

small=(
    --set segments.window=16 --set segments.stride=12
    --set model.tcn.depth=1 --set 'model.tcn.channels=[8]' --set model.tcn.kernel=3
    --set model.width=8 --set model.transformer.layers=1 --set model.transformer.heads=2
    --set model.transformer.feedforward=16 --set model.head_hidden=8
    --set optimiser.lr=5e-3 --set optimiser.batch_size=4 --set optimiser.epochs=6
    --set run.device=cpu
)
sweep=(--space space.py --concurrent 1 --min-epochs 2 --track none)
# Nothing reaches the tower's weights: the head's dropout lets no gradient through, and they do not
# decay. With weights of few different values the whole encoder is small, its checkpoints, too.
tower=(
    --model raffect-tiny --pretrained tower.safetensors --set encoder.head_dropout=0.99999999
    --set weight_decay=0 --set layer_decay=1 --set batch_size=32
)

raffect synth raw --videos 8 --frames 16 --seed 0
"$python" - <<'EOF'
import io
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file

from raffect.clip.tower import ARCHITECTURES

# Smaller crops than those of `synth`.
images = []
for path in sorted(Path("raw").rglob("*.jpg")):
    sink = io.BytesIO()
    Image.open(path).save(sink, "JPEG", quality=25, optimize=True)
    path.write_bytes(sink.getvalue())
    image = Image.open(path).convert("RGB").resize((64, 64))
    images.append((np.asarray(image) / 255 - 0.45) / 0.27)
pixels = torch.tensor(np.stack(images), dtype=torch.float32).permute(0, 3, 1, 2)

# Weights of two values a tensor; none for the text, which nobody asks.
open_clip.add_model_config(ARCHITECTURES)
torch.manual_seed(0)
model = open_clip.create_model("raffect-tiny", pretrained=None)
with torch.no_grad():
    for name, values in model.state_dict().items():
        if not name.startswith("visual."):
            values.zero_()
        elif values.is_floating_point() and values.ndim > 1:
            size = 2.0 ** values.std().log2().round()
            values.copy_(torch.where(values < 0, -size, size))
        elif name.endswith("bn3.weight"):
            values.fill_(1.0)
    # Features that differ from crop to crop, around 0.
    model.visual.train()
    for _ in range(30):
        model.visual(pixels)
    model.visual.eval()
    last = model.visual.attnpool.c_proj
    last.weight *= 2.0 ** (-model.visual(pixels).std(0).mean().log2().round())
    last.bias -= model.visual(pixels).mean(0)
state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
save_file(state, "tower.safetensors")
EOF
raffect prepare --images raw/cropped_aligned --images raw/cropped_aligned_new_50_vids \
    --annotations raw/annotations
raffect finetune "${tower[@]}" --set epochs=2
raffect extract
raffect train va "${small[@]}"
raffect tune va --trials 4 "${small[@]}" --space space.py --concurrent 1 --min-epochs 2
raffect retrain va --seeds 2
raffect tune va --branch branched --trials 2 --sampler random --seed 1 \
    "${small[@]}" "${sweep[@]}"

# Two commands that kill themselves: a sweep when a trial has a checkpoint, with one after each
# epoch instead of each minute; fine-tuning when an epoch has been told.
"$python" - "${small[@]}" <<'EOF' || true
import os
import signal
import sys

from raffect.affwild2.tasks import Task
from raffect.config import override, parse_assignments, recipe
from raffect.store import Store
from raffect.sweep.run import tune
from raffect.sweep.settings import SweepSettings

base = override(recipe(Task.VA), parse_assignments(sys.argv[2::2]))
settings = SweepSettings(
    trials=4, space="space.py", concurrent=1, min_epochs=2, trackers=(), checkpoint_seconds=0
)


def kill(progress):
    print(progress.event, progress.trial, progress.epoch, progress.state, flush=True)
    if progress.event == "epoch" and progress.trial > 0 and progress.epoch > 2:
        os.kill(os.getpid(), signal.SIGKILL)


tune(Store("store"), Task.VA, "clip", "killed", settings, base, on_update=kill)
sys.exit("It was not killed.")
EOF
"$python" - "${tower[@]:4}" <<'EOF' || true
import os
import signal
import sys

from raffect.clip.finetune import finetune
from raffect.config import FinetuneConfig, override, parse_assignments
from raffect.store import Store

changes = parse_assignments(sys.argv[2::2])
changes |= {"encoder.model": "raffect-tiny", "encoder.pretrained": "tower.safetensors"}
config = override(FinetuneConfig(), {**changes, "epochs": 3})


def kill(facts):
    print(facts, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


finetune(Store("store"), "killed", config, on_epoch=kill)
sys.exit("It was not killed.")
EOF
# What they have started ends by itself.
sleep 10

raffect trials va --json >trials-va.json
raffect trials killed --json >trials-killed.json
raffect trials branched --json >trials-branched.json
raffect predict sweeps/va --frames raw/cropped_aligned/10-30-1280x720-1 --out crops.csv
mv raw/annotations .
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=2026-01-01 -c \
    store annotations tower.safetensors crops.csv trials-*.json | xz -9e >"$data/store-0.1.tar.xz"
ls -l "$data/store-0.1.tar.xz"
