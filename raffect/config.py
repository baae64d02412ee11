"""Every setting of every stage: frozen, checked, with the recipe as its default.

Source of the recipe: Zhou et al., "Emotion Recognition with CLIP and Sequential Learning", and
the authors' ABAW6 paper; where neither states a figure, the comment says where ours is from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from raffect.affwild2.tasks import Task
from raffect.errors import SettingsError

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]
Depth = Annotated[int, Field(ge=0, le=64)]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "bfloat16"]


class Config(BaseModel):
    """Base of all settings: unknown keys are refused, values can't change."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    def canonical(self) -> dict[str, Any]:
        """The settings as JSON types, the same for equal settings."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """SHA-256 of the canonical JSON."""
        return hash_json(self.canonical())


class RunConfig(Config):
    """Where and how a stage computes; the seed fixes every random choice."""

    seed: int = Field(0, ge=0, lt=2**31)
    device: Device = "auto"
    precision: Precision = Field("auto", description="auto: bfloat16 autocast on GPUs")


class EncoderConfig(Config):
    """The image tower: any open_clip architecture, its weights, and the head's size."""

    model: str = Field("ViT-B-16", description="an open_clip architecture")
    pretrained: str | None = Field("openai", description="open_clip tag, local file, or none")
    # Crops are 112x112; None keeps the size that the architecture was trained with.
    image_size: int | None = Field(None, ge=16, le=1024)
    head_dropout: Rate = 0.1


class AugmentConfig(Config):
    """Augmentation that keeps an expression recognisable: never a vertical flip or a hard crop."""

    flip: Share = 0.5
    crop_scale: float = Field(0.85, gt=0.3, le=1.0, description="smallest area kept by a crop")
    colour: Share = Field(0.2, description="jitter of brightness, contrast and saturation")
    erase: Share = Field(0.1, description="probability of erasing a patch")


class FinetuneConfig(Config):
    """Fine-tuning CLIP's image tower on the expression labels.

    Batch 256, AdamW and the learning rate 1e-4 are those of the ABAW6 paper. Layer decay, EMA and
    the number of epochs are the usual ones of fine-tuned vision transformers (BEiT, open_clip).
    """

    encoder: EncoderConfig = EncoderConfig()
    augment: AugmentConfig = AugmentConfig()
    epochs: Count = 5
    batch_size: Count = Field(256, description="over all workers together")
    lr: Positive = 1e-4
    weight_decay: NonNegative = 0.05
    layer_decay: float = Field(0.75, gt=0.0, le=1.0)
    warmup_epochs: NonNegative = 0.5
    class_weight_power: Share = Field(0.5, description="0: none, 1: inverse class frequency")
    label_smoothing: Rate = 0.1
    ema_decay: Rate = Field(0.999, description="0: no averaging of weights")
    lora_rank: int = Field(0, ge=0, le=256, description="0: all weights are tuned")
    head: Literal["linear", "prompt"] = Field("linear", description="prompt: from class names")
    frame_stride: Count = Field(1, description="use each n-th labelled frame of a video")
    run: RunConfig = RunConfig()


class ExtractConfig(Config):
    """Turning every crop into one feature."""

    batch_size: Count = 256
    decoders: int = Field(2, ge=1, le=64, description="decoding threads per encoder")
    run: RunConfig = RunConfig()


class SegmentConfig(Config):
    """Segments of a video; the tail and short videos are always covered."""

    window: int = Field(300, ge=4)
    stride: int = Field(200, ge=1)


class TCNConfig(Config):
    """Temporal convolutional network; a depth of 0 leaves it out (the paper's ablation)."""

    depth: Depth = 3
    channels: tuple[Count, ...] = Field(
        (768, 256, 128), min_length=1, description="per block; the last one repeats when deeper"
    )
    kernel: int = Field(5, ge=2, le=64)
    dropout: Rate = 0.3

    def block_channels(self) -> tuple[int, ...]:
        """Output channels of each of the `depth` blocks."""
        last = len(self.channels) - 1
        return tuple(self.channels[min(i, last)] for i in range(self.depth))


class TransformerConfig(Config):
    """Transformer encoder; 0 layers leave it out (the paper's ablation)."""

    layers: Depth = 8
    heads: Count = 4
    feedforward: Count = 512
    dropout: Rate = 0.3
    # The authors' code has none, so that order reaches the Transformer only through the TCN.
    positions: Literal["sinusoidal", "none"] = "sinusoidal"


class ModelConfig(Config):
    """The temporal model: TCN, 1x1 convolution to `width`, Transformer encoder, MLP head."""

    tcn: TCNConfig = TCNConfig()
    width: Count = 512
    transformer: TransformerConfig = TransformerConfig()
    head_hidden: Count = 256
    head_dropout: Rate = 0.3


class AuxiliaryConfig(Config):
    """Weights of the other tasks' losses; all 0 is uni-task, as ABAW's VA track demands."""

    va: NonNegative = 0.0
    expr: NonNegative = 0.0
    au: NonNegative = 0.0


class LossConfig(Config):
    """Loss weights; the defaults are the recipe's plain losses."""

    valence_share: Share = Field(0.5, description="VA: weight of valence against arousal")
    mse_share: Share = Field(0.0, description="VA: mean squared error mixed into 1 - CCC")
    class_weight_power: Share = Field(0.0, description="EXPR: 1 is inverse class frequency")
    label_smoothing: Rate = Field(0.0, description="EXPR")
    focal_gamma: float = Field(0.0, ge=0.0, le=10.0, description="EXPR")
    positive_weight_power: Share = Field(0.0, description="AU: 1 is negatives / positives")
    auxiliary: AuxiliaryConfig = AuxiliaryConfig()


class OptimiserConfig(Config):
    """AdamW with a linear warm-up and a cosine to zero."""

    epochs: Count = 40
    batch_size: Count = 32
    lr: Positive = 3e-5
    weight_decay: NonNegative = 1e-5
    warmup_epochs: NonNegative = 1.0
    clip_norm: float | None = Field(None, gt=0.0, description="none: gradients are not clipped")
    accumulation: int = Field(1, ge=1, le=64, description="parts of a batch; same gradient")
    patience: int | None = Field(
        None, ge=1, description="epochs without a better score after which to stop; none: never"
    )


class TemporalConfig(Config):
    """One temporal model of one task: what `train` takes and what a sweep's trial runs."""

    task: Task
    segments: SegmentConfig = SegmentConfig()
    model: ModelConfig = ModelConfig()
    losses: LossConfig = LossConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    run: RunConfig = RunConfig()


RECIPE_EPOCHS = {Task.VA: 40, Task.EXPR: 10, Task.AU: 30}


def recipe(task: Task) -> TemporalConfig:
    """The published recipe for a task (epochs per task as in the ABAW6 paper)."""
    return TemporalConfig(task=task, optimiser=OptimiserConfig(epochs=RECIPE_EPOCHS[task]))


C = TypeVar("C", bound=Config)


def hash_json(value: Any) -> str:
    """SHA-256 of a value's canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def override(config: C, changes: Mapping[str, Any]) -> C:
    """A copy of `config` with dotted keys changed, e.g. `{"model.tcn.depth": 4}`.

    Raises:
        SettingsError: All unknown keys, wrong types and values out of range, listed at once.
    """
    tree = config.model_dump(mode="python")
    for key, value in changes.items():
        node = tree
        *parents, leaf = key.split(".")
        for part in parents:
            child = node.setdefault(part, {})
            if not isinstance(child, dict):
                # A plain value can't have parts; pydantic then names the key as unknown.
                child = node[part] = {}
            node = child
        node[leaf] = value
    return build(type(config), tree)


def build(cls: type[C], tree: Mapping[str, Any]) -> C:
    """Settings of class `cls` from nested mappings.

    Raises:
        SettingsError: Everything that is wrong with them, listed at once.
    """
    try:
        return cls.model_validate(tree)
    except ValidationError as error:
        raise SettingsError(
            "These settings are wrong:\n" + "\n".join(_describe(error)),
            "the keys that `--help` of the command names and the README's table explains",
            "Correct the `--set` options or the file and give the command again.",
        ) from None


def _describe(error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors(include_url=False):
        key = ".".join(str(part) for part in problem["loc"])
        got = json.dumps(problem["input"], default=str)
        what = "no setting has this name" if problem["type"] == "extra_forbidden" else ""
        lines.append(f"  {key} = {got[:60]}: {what or problem['msg']}")
    return lines


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """`--set a.b=c` options as dotted keys and YAML values.

    Raises:
        SettingsError: The options without `=`, listed at once.
    """
    bad = [text for text in assignments if "=" not in text or text.startswith("=")]
    if bad:
        raise SettingsError(
            f"--set takes key=value; got {', '.join(bad)}.",
            "dotted keys, e.g. --set model.tcn.depth=4",
            "Write each as key=value.",
        )
    pairs = (text.split("=", 1) for text in assignments)
    return {key.strip(): _parse_value(value) for key, value in pairs}


def _parse_value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def read_yaml(path: Path) -> dict[str, Any]:
    """Settings from a YAML file as nested mappings.

    Raises:
        SettingsError: The file is missing, is not YAML, or is not a mapping.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{path} can't be read as YAML: {error}",
            "a YAML file of settings",
            "Correct --config or the file.",
        ) from None
    if not isinstance(tree, dict):
        raise SettingsError(
            f"{path} holds no mapping.", "a YAML mapping of settings", "Correct the file."
        )
    return tree
