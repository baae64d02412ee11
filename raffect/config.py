"""Every setting of every stage: frozen, checked, with the recipe as its default.

Source of the recipe: Zhou et al., "Emotion Recognition with CLIP and Sequential Learning", and
the authors' ABAW6 paper; where neither states a figure, the comment says where ours is from.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from raffect.affwild2.tasks import Task, parse_fold
from raffect.errors import SettingsError
from raffect.settings import Config, Count, Depth, NonNegative, Positive, Rate, Share, added

Device = Literal["auto", "cpu", "cuda"]
FeatureType = Literal["float16", "float32"]
FeaturePlace = Literal["auto", "device", "host"]
Layer = Literal["projected", "penultimate"]
InputNormalisation = Literal["none", "zscore", "l2"]
FoldName = Annotated[str, AfterValidator(lambda text: str(parse_fold(text)))]
FOLD = "i/k: validate on the i-th of k folds (affwild2/folds.py), train on all other videos"


class Machine(Config):
    """Where a stage computes; the seed fixes every random choice."""

    seed: int = Field(0, ge=0, lt=2**31, description="of every random choice")
    device: Device = Field("auto", description="auto: a GPU where there is one")


class RunConfig(Machine):
    """Where and how a stage trains."""

    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 autocast on GPUs; of training only"
    )


class TemporalRunConfig(RunConfig):
    """Where and how a temporal model is trained."""

    features: FeaturePlace = added(
        "auto", description="auto: on a GPU that has room and is not shared; host: by batches"
    )
    compile: bool = added(False, description="by torch.compile; batches then have one shape")


class FeatureRunConfig(Machine):
    """Where and how features are computed.

    `auto` is float32 on every device, so that a CPU gives what a GPU gave. Measured against it on
    CPUs (tests/clip/test_encoding.py): float16 autocast is .04 to .3 % off with twelve towers, up
    to 6 % where attention is sharp; bfloat16 eight times as much.
    """

    precision: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="auto: float32; float16 is faster on GPUs, and less exact"
    )


PLAIN = "plain"
"""For `EncoderConfig.weights_of`: as the architecture's configuration has it."""
REPOSITORIES = ("hf-hub:", "local-dir:")
"""How the name of a model begins that has its configuration and its weights in one place."""


class EncoderConfig(Config):
    """The image tower: any open_clip architecture, its weights, and the head's size."""

    model: str = Field("ViT-B-16", description="an open_clip architecture, or hf-hub:ORG/NAME")
    pretrained: str | None = Field("openai", description="open_clip tag, local file, or none")
    weights_of: str | None = added(
        None, description="the tag that a local file's weights are of or began as, or plain"
    )
    # Crops are 112x112; None keeps the size that the architecture was trained with.
    image_size: int | None = Field(
        None, ge=16, le=1024, description="pixels; none: as the architecture was trained"
    )
    head_dropout: Rate = Field(0.1, description="before the expression head")

    @model_validator(mode="before")
    @classmethod
    def _own_weights(cls, given: Any) -> Any:
        """A repository comes with its weights: the default tag does not mean another's."""
        if isinstance(given, dict) and str(given.get("model")).startswith(REPOSITORIES):
            default = cls.model_fields["pretrained"].default
            if given.get("pretrained", default) == default:
                return given | {"pretrained": given["model"]}
        return given


class AugmentConfig(Config):
    """Augmentation that keeps an expression recognisable: never a vertical flip or a hard crop."""

    flip: Share = Field(0.5, description="probability of a horizontal flip")
    crop_scale: float = Field(0.85, gt=0.3, le=1.0, description="smallest area kept by a crop")
    colour: Share = Field(0.2, description="jitter of brightness, contrast and saturation")
    erase: Share = Field(0.1, description="probability of erasing a patch")


class FinetuneConfig(Config):
    """Fine-tuning CLIP's image tower on the expression labels.

    Batch 256, AdamW and the learning rate 1e-4 are those of the ABAW6 paper. Layer decay, EMA and
    the number of epochs are the usual ones of fine-tuned vision transformers (BEiT, open_clip).
    """

    explained_by: ClassVar[str] = "raffect settings finetune"

    encoder: EncoderConfig = EncoderConfig()
    augment: AugmentConfig = AugmentConfig()
    epochs: int = Field(5, ge=0, description="0: the encoder stays as it is")
    batch_size: Count = Field(256, description="over all workers together")
    lr: Positive = Field(1e-4, description="learning rate of the head and the last block")
    weight_decay: NonNegative = Field(0.05, description="AdamW's")
    layer_decay: float = Field(
        0.75, gt=0.0, le=1.0, description="of the learning rate, per block towards the input"
    )
    warmup_epochs: NonNegative = Field(0.5, description="linear; then a cosine to zero")
    class_weight_power: Share = Field(0.5, description="0: none, 1: inverse class frequency")
    label_smoothing: Rate = Field(0.1, description="of the cross-entropy")
    ema_decay: Rate = Field(0.999, description="0: no averaging of weights")
    lora_rank: int = Field(0, ge=0, le=256, description="0: all weights are tuned")
    head: Literal["linear", "prompt"] = Field("linear", description="prompt: from class names")
    frame_stride: Count = Field(1, description="use each n-th labelled frame of a video")
    fold: FoldName | None = added(None, description=FOLD)
    run: RunConfig = RunConfig()


class ExtractConfig(Config):
    """Turning every crop into one feature."""

    explained_by: ClassVar[str] = "raffect settings extract"

    batch_size: Count = Field(256, description="crops per forward pass")
    decoders: int = Field(2, ge=1, le=64, description="decoding threads per encoder")
    layer: Layer = added("projected", description="penultimate: what the projection is made of")
    dtype: FeatureType = added("float16", description="float32 for features beyond 65,504")
    run: FeatureRunConfig = FeatureRunConfig()


class SegmentConfig(Config):
    """Segments of a video; the tail and short videos are always covered."""

    window: int = Field(300, ge=4, description="frames")
    stride: int = Field(200, ge=1, description="frames between the starts of two segments")
    blend: Literal["crossfade", "mean"] = added(
        "crossfade", description="of overlapping predictions; mean: as before raffect 0.3"
    )
    predict_stride: int | None = added(
        None, ge=1, description="of prediction; none: that of training, or less"
    )


class TCNConfig(Config):
    """Temporal convolutional network; a depth of 0 leaves it out (the paper's ablation)."""

    depth: Depth = Field(3, description="residual blocks; 0 leaves the TCN out")
    channels: tuple[Count, ...] = Field(
        (768, 256, 128), min_length=1, description="per block; the last one repeats when deeper"
    )
    kernel: int = Field(5, ge=2, le=64, description="frames")
    dropout: Rate = Field(0.3, description="in each block")

    def block_channels(self) -> tuple[int, ...]:
        """Output channels of each of the `depth` blocks."""
        last = len(self.channels) - 1
        return tuple(self.channels[min(i, last)] for i in range(self.depth))


class TransformerConfig(Config):
    """Transformer encoder; 0 layers leave it out (the paper's ablation)."""

    layers: Depth = Field(8, description="0 leaves the Transformer out")
    heads: Count = Field(4, description="of attention; width must be a multiple of it")
    feedforward: Count = Field(512, description="hidden width of its MLPs")
    dropout: Rate = Field(0.3, description="of attention and MLPs")
    # The authors' code has none, so that order reaches the Transformer only through the TCN.
    positions: Literal["sinusoidal", "none"] = Field(
        "sinusoidal", description="encoding of each frame's place in its segment"
    )


class ModelConfig(Config):
    """The temporal model: TCN, 1x1 convolution to `width`, Transformer encoder, MLP head."""

    input: InputNormalisation = added(
        "none", description="of features: by statistics of training, or to length 1"
    )
    tcn: TCNConfig = TCNConfig()
    width: Count = Field(512, description="of the Transformer's input")
    transformer: TransformerConfig = TransformerConfig()
    head: Literal["relu", "batchnorm"] = added(
        "relu", description="batchnorm: linear layers, as in the authors' code"
    )
    head_hidden: Count = Field(256, description="hidden width of the MLP head")
    head_dropout: Rate = Field(0.3, description="of the relu head")


class AuxiliaryConfig(Config):
    """Weights of the other tasks' losses; all 0 is uni-task, as ABAW's VA track demands."""

    va: NonNegative = Field(0.0, description="weight of valence and arousal's loss")
    expr: NonNegative = Field(0.0, description="weight of the expressions' loss")
    au: NonNegative = Field(0.0, description="weight of the action units' loss")


class LossConfig(Config):
    """Loss weights; the defaults are the recipe's plain losses."""

    valence_share: Share = Field(0.5, description="VA: weight of valence against arousal")
    mse_share: Share = Field(0.0, description="VA: mean squared error mixed into 1 - CCC")
    class_weight_power: Share = Field(0.0, description="EXPR: 1 is inverse class frequency")
    label_smoothing: Rate = Field(0.0, description="EXPR: of the cross-entropy")
    focal_gamma: float = Field(0.0, ge=0.0, le=10.0, description="EXPR: 0 is plain cross-entropy")
    positive_weight_power: Share = Field(0.0, description="AU: 1 is negatives / positives")
    auxiliary: AuxiliaryConfig = AuxiliaryConfig()


class OptimiserConfig(Config):
    """AdamW with a linear warm-up and a cosine to zero."""

    epochs: Count = Field(40, description="full budget; warm-up and cosine follow it")
    batch_size: Count = Field(32, description="segments, over all workers together")
    lr: Positive = Field(3e-5, description="learning rate at its highest")
    weight_decay: NonNegative = Field(1e-5, description="of matrices and kernels only")
    warmup_epochs: NonNegative = Field(1.0, description="linear; then a cosine to zero")
    clip_norm: float | None = Field(None, gt=0.0, description="none: gradients are not clipped")
    accumulation: int = Field(1, ge=1, le=64, description="parts of a batch; same gradient")
    shards: Count = added(
        1, description="shares of the videos, of each of which a batch has its part"
    )
    patience: int | None = Field(
        None, ge=1, description="epochs without a better score after which to stop; none: never"
    )


class TemporalConfig(Config):
    """One temporal model of one task: what `train` takes and what a sweep's trial runs."""

    explained_by: ClassVar[str] = "raffect settings train"

    task: Task = Field(description="the command names it")
    segments: SegmentConfig = SegmentConfig()
    model: ModelConfig = ModelConfig()
    losses: LossConfig = LossConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    fold: FoldName | None = added(None, description=FOLD)
    postprocess: Literal["none", "fit"] = added(
        "none", description="fit: smoothing, delay and thresholds, cross-fitted on validation"
    )
    run: TemporalRunConfig = TemporalRunConfig()


RECIPE_EPOCHS = {Task.VA: 40, Task.EXPR: 10, Task.AU: 30}


def recipe(task: Task, sets: int = 1) -> TemporalConfig:
    """The published recipe for a task (epochs per task as in the ABAW6 paper).

    It has one set of features, as it is; several have different scales, and are normalised.
    """
    return TemporalConfig(
        task=task,
        model=ModelConfig(input="none" if sets == 1 else "zscore"),
        optimiser=OptimiserConfig(epochs=RECIPE_EPOCHS[task]),
    )


def check_task(config: TemporalConfig, task: Task, where: str) -> None:
    """Refuse settings of another task than that of the command or the space that they came from.

    Raises:
        SettingsError: They are of another task.
    """
    if config.task is not task:
        raise SettingsError(
            f"{where} is for the task {task}; its settings say task = {config.task}.",
            f"task = {task}, or none: the command names the task",
            f"Take `task` out of --set, --config or the space; or, for a model of {config.task},"
            f" give `raffect train {config.task}` or `raffect tune {config.task}`.",
        )
