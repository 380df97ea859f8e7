"""The image encoder of LiteMedSAM: TinyViT-5M at stride 4.

The architecture is TinyViT (Wu et al., "TinyViT: Fast Pretraining Distillation for Small Vision Transformers", ECCV 2022) in the
shape that MobileSAM and LiteMedSAM gave it: a convolutional stage, then three stages of windowed attention, and SAM's neck. Module
names are those of LiteMedSAM's checkpoint, so that its weights load strictly. Nothing depends on the image's size except the number
of windows: any side that is a multiple of 4 works.

Batch norms are frozen by construction: their running statistics are folded into the convolution before it at every call, in training
mode too. That is exact, saves a pass over the largest activations, and tuning on a few cases cannot disturb the statistics.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (64, 128, 160, 320)
DEPTHS = (2, 2, 6, 2)
HEADS = (2, 4, 5, 10)  # of the stages 1..3; stage 0 has no attention
WINDOWS = (7, 7, 14, 7)
EXPANSION = 4
STRIDE = 4
OUTPUT_CHANNELS = 256


class ConvNorm(nn.Module):
    """A convolution without bias, then a batch norm with frozen statistics. `c` and `bn` are the checkpoint's names."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        norm = self.bn
        if norm.running_mean is None or norm.running_var is None:  # never with track_running_stats, its default
            raise RuntimeError("batch norm without running statistics")
        gain = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        offset = norm.bias - norm.running_mean * gain
        weight = self.c.weight * gain[:, None, None, None]
        return functional.conv2d(x, weight, offset, self.c.stride, self.c.padding, self.c.dilation, self.c.groups)


class PatchEmbed(nn.Module):
    """Pixels to features, at full resolution: LiteMedSAM's takes no stride here."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(ConvNorm(3, outputs // 2), nn.GELU(), ConvNorm(outputs // 2, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, outputs, H, W)."""
        features: Tensor = self.seq(x)
        return features


class ConvBlock(nn.Module):
    """Inverted bottleneck with a depthwise 3 x 3 convolution and a residual connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = width * EXPANSION
        self.conv1 = ConvNorm(width, hidden)
        self.conv2 = ConvNorm(hidden, hidden, kernel=3, groups=hidden)
        self.conv3 = ConvNorm(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W), unchanged in shape."""
        return functional.gelu(x + self.conv3(functional.gelu(self.conv2(functional.gelu(self.conv1(x))))))


class Downsample(nn.Module):
    """Passes from one stage to the next: new width, and half the resolution where stride is 2."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, outputs)
        self.conv2 = ConvNorm(outputs, outputs, kernel=3, stride=stride, groups=outputs)
        self.conv3 = ConvNorm(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        features: Tensor = self.conv3(functional.gelu(self.conv2(functional.gelu(self.conv1(x)))))
        return features


class WindowAttention(nn.Module):
    """Multi-head attention among the N = window^2 tokens of one window, with a learned bias for each distance and head.

    `attention_biases` (heads, window^2) holds the bias of a pair of tokens at |rows apart| * window + |columns apart|.
    """

    bias_index: Tensor

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        # the device is named because the module may be built on the meta device, which has no values
        self.register_buffer("bias_index", _distance_index(window), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(windows, N, width), unchanged in shape."""
        windows, count, width = tokens.shape
        # each head's query, key and value lie side by side
        qkv: Tensor = self.qkv(self.norm(tokens)).view(windows, count, self.heads, 3, width // self.heads)
        query, key, value = qkv.permute(3, 0, 2, 1, 4).unbind(0)
        bias = self.attention_biases[:, self.bias_index].unsqueeze(0).to(query.dtype)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        projected: Tensor = self.proj(mixed.transpose(1, 2).reshape(windows, count, width))
        return projected


class FeedForward(nn.Module):
    """Layer norm and two linear layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, width * EXPANSION)
        self.fc2 = nn.Linear(width * EXPANSION, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width), unchanged in shape."""
        features: Tensor = self.fc2(functional.gelu(self.fc1(self.norm(x))))
        return features


class AttentionBlock(nn.Module):
    """Windowed attention, a depthwise convolution across window borders, and a feed-forward part."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = WindowAttention(width, heads, window)
        self.mlp = FeedForward(width)
        self.local_conv = ConvNorm(width, width, kernel=3, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, width), unchanged in shape."""
        x = x + from_windows(self.attn(to_windows(x, self.window)), self.window, x.shape)
        x = self.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        changed: Tensor = x + self.mlp(x)
        return changed


class ConvStage(nn.Module):
    """Stage 0."""

    def __init__(self, width: int, depth: int, next_width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ConvBlock(width) for _ in range(depth))
        self.downsample = Downsample(width, next_width, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> (B, next_width, H / 2, W / 2)."""
        for block in self.blocks:
            x = block(x)
        downsampled: Tensor = self.downsample(x)
        return downsampled


class AttentionStage(nn.Module):
    """Stages 1 to 3; the last has no `downsample`."""

    def __init__(self, width: int, depth: int, heads: int, window: int, downsample: Downsample | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(AttentionBlock(width, heads, window) for _ in range(depth))
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> (B, next width, H / stride, W / stride)."""
        tokens = x.permute(0, 2, 3, 1)
        for block in self.blocks:
            tokens = block(tokens)
        x = tokens.permute(0, 3, 1, 2)
        return x if self.downsample is None else self.downsample(x)


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each pixel, as in SAM's neck."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W), unchanged in shape."""
        return functional.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, 1e-6).permute(0, 3, 1, 2)


class TinyViT(nn.Module):
    """Pixels (B, 3, S, S) to the embedding (B, 256, S / 4, S / 4), in two parts: `stem` and `body`."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(WIDTHS[0])
        # LiteMedSAM keeps stride 4 to the end: the last transition halves nothing
        downsamples = (Downsample(WIDTHS[1], WIDTHS[2], 2), Downsample(WIDTHS[2], WIDTHS[3], 1), None)
        self.layers = nn.ModuleList([ConvStage(WIDTHS[0], DEPTHS[0], WIDTHS[1])])
        for stage, downsample in zip((1, 2, 3), downsamples, strict=True):
            self.layers.append(AttentionStage(WIDTHS[stage], DEPTHS[stage], HEADS[stage], WINDOWS[stage], downsample))
        self.neck = nn.Sequential(
            nn.Conv2d(WIDTHS[3], OUTPUT_CHANNELS, 1, bias=False),
            ChannelNorm(OUTPUT_CHANNELS),
            nn.Conv2d(OUTPUT_CHANNELS, OUTPUT_CHANNELS, 3, padding=1, bias=False),
            ChannelNorm(OUTPUT_CHANNELS),
        )

    def stem(self, pixels: Tensor) -> Tensor:
        """Everything before the first attention block: (B, 3, S, S) -> (B, 128, S / 2, S / 2)."""
        # channels last: the attention stages then see their tokens without a copy
        x: Tensor = self.layers[0](self.patch_embed(pixels.contiguous(memory_format=torch.channels_last)))
        return x

    def body(self, x: Tensor) -> Tensor:
        """Attention stages and neck: `stem`'s result to (B, 256, S / 4, S / 4)."""
        for stage in self.layers[1:]:
            x = stage(x)
        embedding: Tensor = self.neck(x)
        return embedding

    def forward(self, pixels: Tensor) -> Tensor:
        """Both parts."""
        return self.body(self.stem(pixels))


def block_paths() -> tuple[str, ...]:
    """Paths of the attention blocks inside TinyViT, from the pixels on."""
    return tuple(f"layers.{stage}.blocks.{block}" for stage in (1, 2, 3) for block in range(DEPTHS[stage]))


def to_windows(x: Tensor, window: int) -> Tensor:
    """Cut (B, H, W, C) into windows (B * windows, window^2, C), zero-padded at the bottom and right where H or W do not divide."""
    batch, height, width, channels = x.shape
    x = functional.pad(x, (0, 0, 0, -width % window, 0, -height % window))
    rows, columns = x.shape[1] // window, x.shape[2] // window
    x = x.view(batch, rows, window, columns, window, channels).transpose(2, 3)
    return x.reshape(batch * rows * columns, window * window, channels)


def from_windows(windows: Tensor, window: int, shape: torch.Size) -> Tensor:
    """Inverse of `to_windows`: back to `shape` (B, H, W, C), padding cut away."""
    batch, height, width, channels = shape
    rows, columns = -(-height // window), -(-width // window)
    x = windows.view(batch, rows, columns, window, window, channels).transpose(2, 3)
    return x.reshape(batch, rows * window, columns * window, channels)[:, :height, :width]


def _distance_index(window: int) -> Tensor:
    """(N, N) index into a row of `attention_biases` for each pair of a window's N tokens."""
    place = torch.arange(window * window, device="cpu")
    row, column = place // window, place % window
    return (row[:, None] - row[None, :]).abs() * window + (column[:, None] - column[None, :]).abs()
