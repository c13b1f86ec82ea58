"""JMCELN: joint mask contextual embedding learning and progressive alignment (Huang and Satoh, EMNLP 2023).

CLIP encodes image and sentence. The sentence multiplies the deepest map, and a neck climbs from there to stride 8 (eq.
1-2); this is the only place where language enters. A long-short relation-aware network (LSRAN, sec. 3.3) lets objects
see each other. Then learned contextual embeddings and the map refresh each other in stages: the embeddings gather what
they need from the map (eq. 3), the map reads the embeddings (eq. 4), and a progressive alignment network (PAN) filters
the new map by the old one. Three enlargements lead to two classes per pixel at network size.

We found no code of it and had its text without the figures. What that leaves open is said in `JMCELNConfig`, field by
field.

B images, T expressions, P pixels at stride 8, h and w the size of that map, C channels, J joint width of CLIP,
Q embeddings, n stages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refseg.checked import Checked
from refseg.encoders.clip import ClipResNet, ClipResNetConfig, ClipText, ClipTextConfig
from refseg.encoders.swin import WindowSelfAttention, unwindows, windows
from refseg.geometry import crop_logits, pad_to_multiple
from refseg.layers.neck import SentenceNorm, double
from refseg.layers.positions import sine_grid
from refseg.layers.switch_norm import SwitchNorm2d
from refseg.losses import class_losses
from refseg.methods.base import ClipSegmenter
from refseg.types import ImageFeatures, Output, TextFeatures


@dataclass(frozen=True)
class JMCELNConfig(Checked):
    """Everything that can be switched in JMCELN. The paper's values are in `refseg.presets.jmceln`.

    "Ours" marks what the paper does not say and no public source decides. Also ours, without a switch: all projections
    of the neck are 1x1, the map at stride 32 is the only one that the sentence multiplies directly, the convolutions of
    LSRAN (dilated, `mix`, `boundary`) carry batch norm, all but `boundary` a leaky ReLU, the window attention is Swin's
    (LayerNorm in front, relative position bias, residual), the attentions of eq. 3 and 4 have no norm and no
    feed-forward network (none is printed), and PAN ends without an output convolution.

    Attributes:
        vision: CLIP's image tower, a ModifiedResNet (sec. 4: ResNet-101).
        text: CLIP's text tower; only its sentence is read, never its words.
        c5: What F_v3 of eq. 1 is: "layer4", the last map of the ResNet (paper), or "attnpool", the attention pool at
            every pixel, where the sentence lives too (as in CRIS).
        width: C, the channels of all maps between neck and upsampling; a multiple of 8.
        heads: Heads of all attentions, the window's too; 8 in the paper.
        slope: Slope of the leaky ReLUs below 0; ours.
        lsran: Whether the relation-aware network is there; without it F_mt of stage 0 is F_m (Table 2).
        window: Side of its attention windows; ours (it stands in a figure). Maps that it does not divide are
            padded, and padding is not attended to.
        dilations: Dilation of each of its parallel 3x3 convolutions; four in the paper, their values and size are ours.
        boundary_sigmoid: Whether a sigmoid bounds what its 3x3 branch multiplies with; ours is off ("multiply").
        stages: n, how often embeddings and map refresh each other; 0 is the paper's baseline (Table 2).
        embeddings: Q, the number of contextual embeddings.
        share_stages: Whether all stages have the same weights; ours is off.
        sine_positions: Whether keys of eq. 3 and queries of eq. 4 carry fixed sine codes; ours is off (none printed).
        lce_adaptive: Whether eq. 3 gathers from the map of its own stage; if not, from that of stage 0 (Table 2). That
            the embeddings then still add up over the stages is ours.
        pan: Whether PAN follows eq. 4 (Table 2).
        head_lr_mult: How much faster than CLIP's towers everything else learns; 1 in the paper.
        dice_weight: Weight of an added Dice term; 0 in the paper.
    """

    least = {"stages": 0}

    vision: ClipResNetConfig
    text: ClipTextConfig
    c5: Literal["attnpool", "layer4"]
    width: int
    heads: int
    slope: float
    lsran: bool
    window: int
    dilations: tuple[int, ...]
    boundary_sigmoid: bool
    stages: int
    embeddings: int
    share_stages: bool
    sine_positions: bool
    lce_adaptive: bool
    pan: bool
    head_lr_mult: float
    dice_weight: float

    def __post_init__(self) -> None:
        """Refuses what cannot be built.

        Raises:
            ValueError: A width that cannot be split, no embedding, no window or a negative number of stages.
        """
        super().__post_init__()
        parts = {"8": 8, f"heads {self.heads}": self.heads, f"{len(self.dilations)} dilations": len(self.dilations)}
        for name, part in parts.items():
            if self.width % part:
                raise ValueError(f"width {self.width} with {name}: it must be a multiple of 8, heads and dilations")


def conv_norm_act(inputs: int, outputs: int, kernel: int, slope: float, dilation: int = 1) -> nn.Sequential:
    """A convolution that keeps the size, and sigma of eq. 1-2: batch norm and leaky ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2 * dilation, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.LeakyReLU(slope))


class Neck(nn.Module):
    """Three maps and a sentence to F_m (eq. 1-2).

    Args:
        channels: Channels of the maps at strides 8, 16 and 32.
        joint: J, width of the sentence.
        width: C.
        slope: Slope of the leaky ReLUs.
    """

    def __init__(self, channels: tuple[int, int, int], joint: int, width: int, slope: float) -> None:
        super().__init__()
        # In the paper's letters W_v1 to W_v3, W_s, and W_m2, W_m1.
        self.maps = nn.ModuleList(conv_norm_act(c, width, 1, slope) for c in channels)
        self.sentence = nn.Sequential(nn.Linear(joint, width, bias=False), SentenceNorm(width), nn.LeakyReLU(slope))
        self.merges = nn.ModuleList(conv_norm_act(2 * width, width, 1, slope) for _ in range(2))

    def project(self, maps: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """What no sentence is needed for: (B, C_i, H_i, W_i) of strides 8, 16, 32 to C channels each."""
        fine, middle, deep = (project(x) for project, x in zip(self.maps, maps, strict=True))
        return fine, middle, deep

    def forward(self, maps: tuple[Tensor, Tensor, Tensor], sentence: Tensor) -> Tensor:
        """Projected maps (T, C, ., .) of strides 8, 16, 32 and (T, J) sentences to F_m (T, C, h, w)."""
        fine, middle, deep = maps
        x = self.sentence(sentence)[:, :, None, None] * deep  # eq. 1, F_m2
        for merge, lateral in zip(self.merges, (middle, fine), strict=True):
            x = merge(torch.cat([double(x), lateral], 1))  # eq. 2, F_m1 and F_m0
        return x


class LSRAN(nn.Module):
    """Long-short relation-aware network (sec. 3.3): what dilated convolutions find behind window attention, gated."""

    def __init__(self, config: JMCELNConfig) -> None:
        super().__init__()
        width, slope, branches = config.width, config.slope, len(config.dilations)
        self.window, self.sigmoid = config.window, config.boundary_sigmoid
        self.norm = nn.LayerNorm(width)
        self.attention = WindowSelfAttention(width, config.heads, config.window)
        self.attended = nn.Linear(width, width)
        self.relations = nn.ModuleList(conv_norm_act(width, width // branches, 3, slope, d) for d in config.dilations)
        self.mix = conv_norm_act(width, width, 1, slope)
        self.boundary = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """F_m (T, C, h, w) to F_mt of stage 0, of the same shape."""
        seen = self.attend(x)
        relations = self.mix(torch.cat([relate(seen) for relate in self.relations], 1))
        boundary = self.boundary(x)
        return relations * (boundary.sigmoid() if self.sigmoid else boundary)

    def attend(self, x: Tensor) -> Tensor:
        """Window attention with its residual: (T, C, h, w) to the same shape."""
        h, w = x.shape[2:]
        below, beside = -h % self.window, -w % self.window  # up to whole windows
        pixels = self.norm(x.permute(0, 2, 3, 1)).flatten(1, 2)
        cells = self.attention.project(pixels, (h, w), (below, beside))  # (T, H', W', 3C)
        mask = None
        if below or beside:
            real = F.pad(cells.new_zeros(1, h, w, 1), (0, 0, 0, beside, 0, below), value=float("-inf"))
            mask = windows(real, self.window)[:, None, None, :, 0]  # (windows, 1, 1, S): padding is no key
        found = self.attention(windows(cells, self.window), mask)
        found = unwindows(found, self.window, (cells.shape[1], cells.shape[2]))[:, :h, :w]  # (T, h, w, C)
        return x + self.attended(found).permute(0, 3, 1, 2)


class PAN(nn.Module):
    """Progressive alignment network (sec. 3.4.2): the previous map filters the current one, three times over."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.parts = (width // 4, width // 2, width)
        self.project = nn.Conv2d(width, sum(self.parts), 1)
        self.depthwise = nn.Conv2d(sum(self.parts), sum(self.parts), 7, padding=3, groups=sum(self.parts))
        self.first = nn.Conv2d(width, width // 4, 1)
        self.second = nn.Conv2d(width // 4, width // 2, 3, padding=1)
        self.third = nn.Conv2d(width // 2, width, 3, padding=1)
        self.norm = SwitchNorm2d(width)

    def forward(self, current: Tensor, previous: Tensor) -> Tensor:
        """F_mt' of this stage and F_mt of the last, both (T, C, h, w), to F_mt of this stage."""
        one, two, three = self.depthwise(self.project(current)).split(self.parts, 1)
        filtered = self.first(previous) * one  # (T, C / 4, h, w)
        filtered = self.second(filtered) * two  # (T, C / 2, h, w)
        filtered = self.third(filtered) * three  # (T, C, h, w)
        return self.norm(filtered) + previous


class Stage(nn.Module):
    """One round: the embeddings learn from the map, the map reads the embeddings, PAN aligns it with what it was."""

    def __init__(self, width: int, heads: int, pan: bool) -> None:
        super().__init__()
        self.learn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.predict = nn.MultiheadAttention(width, heads, batch_first=True)
        self.align = PAN(width) if pan else None

    def forward(
        self, query: Tensor, keys: Tensor, values: Tensor, current: Tensor, position: Tensor | None, shown: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Runs one stage.

        Args:
            query: (T, Q, C) embeddings q^i.
            keys: (T, P, C) F_m, with its position code if there is one.
            values: (T, P, C) what the embeddings gather: F_mt of this stage, or of stage 0.
            current: (T, C, h, w) F_mt of this stage.
            position: (P, C) code for the queries of eq. 4, or None.
            shown: Whether the attention of eq. 3 is returned, else None.

        Returns:
            q^{i+1} (T, Q, C), F_mt of the next stage (T, C, h, w), and the attention (T, Q, P), mean over heads.
        """
        gathered, attention = self.learn(query, keys, values, need_weights=shown)
        query = gathered + query  # eq. 3
        pixels = current.flatten(2).transpose(1, 2)  # (T, P, C)
        asking = pixels if position is None else pixels + position
        read, _ = self.predict(asking, query, query, need_weights=False)
        refreshed = (read + pixels).transpose(1, 2).unflatten(2, current.shape[2:])  # eq. 4, (T, C, h, w)
        return query, refreshed if self.align is None else self.align(refreshed, current), attention


class JMCELN(ClipSegmenter):
    """JMCELN; see the module's first lines for what it does."""

    encoder: ClipResNet

    def __init__(self, config: JMCELNConfig) -> None:
        super().__init__()
        self.config = config
        self.head_lr_mult = config.head_lr_mult
        width, pooled = config.width, config.c5 == "attnpool"
        self.text_encoder = ClipText(config.text)
        self.encoder = ClipResNet(config.vision, pool=pooled)
        _, c3, c4, c5 = config.vision.channels
        channels = (c3, c4, config.vision.joint if pooled else c5)
        self.neck = Neck(channels, config.text.joint, width, config.slope)
        self.lsran = LSRAN(config) if config.lsran else None
        if config.stages:
            self.embeddings = nn.Parameter(torch.randn(config.embeddings, width))  # q^0
        built = min(config.stages, 1) if config.share_stages else config.stages
        self.stages = nn.ModuleList(Stage(width, config.heads, config.pan) for _ in range(built))
        halves = (width, width // 2, width // 4, width // 8)
        self.upsampling = nn.ModuleList(
            conv_norm_act(c, half, 3, config.slope) for c, half in zip(halves, halves[1:], strict=False)
        )
        self.classify = nn.Conv2d(halves[-1], 2, 1)

    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        """(B, 3, H, W) to the neck's projected maps "fine", "middle", "deep"; sides are padded to multiples of 32."""
        found = self.encoder(pad_to_multiple(pixels, 32))
        deepest = found.stages[3] if found.spatial is None else found.spatial
        fine, middle, deep = self.neck.project((found.stages[1], found.stages[2], deepest))
        return ImageFeatures({"fine": fine, "middle": middle, "deep": deep}, (pixels.shape[2], pixels.shape[3]))

    def forward(self, image: ImageFeatures, text: TextFeatures, image_index: Tensor, details: bool = False) -> Output:
        """(T, 1, H, W) logits at network size: foreground minus background.

        Details are `masks_by_stage` (T, n + 1, H, W), the log-odds that the upsampling finds in the map of every stage
        (the last are the logits; the others were never trained to be a mask), and, where there are stages,
        `embedding_attention` (T, Q, H/8, W/8): what each embedding looks at in the last one.

        Raises:
            ValueError: A single expression in training, which has no batch statistics.
        """
        assert text.sentence is not None
        maps = (image.maps["fine"][image_index], image.maps["middle"][image_index], image.maps["deep"][image_index])
        joint = self.neck(maps, text.sentence)  # F_m, (T, C, h, w)
        refined, earlier, attention = self._reason(joint, details)
        classes = self._upsample(refined, image.size)  # (T, 2, H, W)
        logits = classes[:, 1:] - classes[:, :1]
        shown: dict[str, Tensor] = {}
        if details:
            before = [self._upsample(x, image.size) for x in earlier]
            shown["masks_by_stage"] = torch.cat([*(x[:, 1:] - x[:, :1] for x in before), logits], 1)
            if attention is not None:
                shown["embedding_attention"] = crop_logits(attention.unflatten(2, joint.shape[2:]), image.size, 8)
        return Output(logits, {"class_logits": classes} if self.training else {}, shown)

    def _reason(self, joint: Tensor, shown: bool) -> tuple[Tensor, list[Tensor], Tensor | None]:
        """All stages, from F_m (T, C, h, w).

        Returns:
            F_mt of stage n (T, C, h, w); if `shown`, also those of the stages before, and the last attention (T, Q, P).
        """
        first = current = joint if self.lsran is None else self.lsran(joint)
        earlier: list[Tensor] = []
        if not self.config.stages:
            return current, earlier, None
        query = self.embeddings.expand(joint.shape[0], -1, -1)  # (T, Q, C)
        keys, position = joint.flatten(2).transpose(1, 2), None  # (T, P, C)
        if self.config.sine_positions:
            position = sine_grid((joint.shape[2], joint.shape[3]), self.config.width, joint)
            keys = keys + position
        attention = None
        for i in range(self.config.stages):
            if shown:
                earlier.append(current)
            stage = self.stages[0 if self.config.share_stages else i]
            values = (current if self.config.lce_adaptive else first).flatten(2).transpose(1, 2)  # (T, P, C)
            query, current, attention = stage(query, keys, values, current, position, shown)
        return current, earlier, attention

    def _upsample(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """(T, C, h, w) to class logits (T, 2, H, W) of the image without its padding."""
        for enlarge in self.upsampling:
            x = enlarge(double(x))
        return crop_logits(self.classify(x), size, 1)

    def loss(self, output: Output, targets: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of two equally weighted classes at network size (sec. 3.5), and the optional Dice term."""
        # In evaluation only the difference of the two is there; it says the same.
        classes = output.aux.get("class_logits", F.pad(output.logits, (0, 0, 0, 0, 1, 0)))
        return class_losses(classes, targets, (1.0, 1.0), self.config.dice_weight)

    @property
    def inert(self) -> dict[str, str]:
        """Biases that a softmax or the neck's batch statistics take out again."""
        alike = "moves all sentences or pixels alike, which the batch norm behind the projection takes out"
        found = super().inert | {"text_encoder.model.text_model.final_layer_norm.bias": alike}
        if self.config.c5 == "attnpool":  # weights over the pixels add up to 1, so that values shift the answer alike
            found |= {f"encoder.attnpool.{name}_proj.bias": alike for name in "vc"}
        if self.lsran is not None:
            found["lsran.attention.key.bias"] = "adds the same to all scores of a softmax"
        return found
