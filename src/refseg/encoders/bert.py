"""BERT (Devlin et al., NAACL 2019): tokens in, one vector per word out.

T expressions, L words, D width. The parameters keep the names of the published Hugging Face checkpoints, so these load
unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refseg.checked import Checked
from refseg.types import TextFeatures

EPSILON = 1e-12  # of BERT's layer norms
PAD = 0  # row of the published vocabularies' [PAD], which starts at zero and learns nothing
SEGMENTS = 2  # rows of the table of sentences; a single sentence is always the first


@dataclass(frozen=True)
class BertConfig(Checked):
    """Shape of a BERT and which of its parts learn.

    Attributes:
        vocab: Size of the vocabulary.
        width: Channels of a word, D.
        layers: Number of layers.
        heads: Attention heads.
        ffn: Hidden width of the feed-forward networks.
        positions: Rows of the position table.
        dropout: Dropout of hidden states and attention.
        trained_layers: How many layers, from the first, are trained; the rest stays as loaded.
        train_embeddings: Whether the embeddings are trained.
    """

    least = {"trained_layers": 0}

    vocab: int
    width: int
    layers: int
    heads: int
    ffn: int
    positions: int
    dropout: float
    trained_layers: int
    train_embeddings: bool


class Bert(nn.Module):
    """BERT without its pooler. What is below `model` has the names of the published checkpoints."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        if config.width % config.heads:
            raise ValueError(
                f"BERT width {config.width} with {config.heads} heads: the width must be a multiple of the heads"
            )
        self.config = config
        self.model = BertModel(config)
        self.model.apply(_initialise)
        self.model.embeddings.requires_grad_(config.train_embeddings)
        for layer in self.model.encoder.layer[config.trained_layers :]:
            layer.requires_grad_(False)

    @property
    def inert(self) -> dict[str, str]:
        """Names below this module of parameters that cannot learn, with the reason."""
        return {"*.attention.self.key.bias": "adds the same to all scores of a softmax"}

    def forward(self, tokens: Tensor, mask: Tensor) -> TextFeatures:
        """(T, L) token ids and their mask to words (T, L, D), [CLS] and [SEP] included.

        Raises:
            ValueError: There are more tokens than positions.
        """
        if tokens.shape[1] > self.config.positions:
            raise ValueError(f"{tokens.shape[1]} tokens: this model reads at most {self.config.positions}")
        return TextFeatures(self.model(tokens, mask), mask)


class BertModel(nn.Module):
    """Embeddings and layers."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.embeddings = BertEmbeddings(config)
        self.encoder = BertEncoder(config)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(T, L) token ids and their mask to words (T, L, D)."""
        return self.encoder(self.embeddings(tokens), mask)


class BertEmbeddings(nn.Module):
    """A word, its place and its sentence, added up and normalised."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab, config.width, padding_idx=PAD)
        self.position_embeddings = nn.Embedding(config.positions, config.width)
        self.token_type_embeddings = nn.Embedding(SEGMENTS, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=EPSILON)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """(T, L) token ids to (T, L, D)."""
        words = self.word_embeddings(tokens) + self.token_type_embeddings.weight[0]
        return self.dropout(self.LayerNorm(words + self.position_embeddings.weight[: tokens.shape[1]]))


class BertEncoder(nn.Module):
    """The layers, one after another."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(BertLayer(config) for _ in range(config.layers))

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        """(T, L, D) and the mask (T, L) of real words to the same shape."""
        for layer in self.layer:
            words = layer(words, mask)
        return words


class BertLayer(nn.Module):
    """Self-attention and a feed-forward network, each added to its input and normalised afterwards."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width = config.width
        self.attention = nn.ModuleDict({"self": BertSelfAttention(config), "output": _Residual(width, config)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, config.ffn)})
        self.output = _Residual(config.ffn, config)

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        """(T, L, D) and the mask (T, L) of real words to the same shape."""
        words = self.attention["output"](self.attention["self"](words, mask), words)
        return self.output(F.gelu(self.intermediate["dense"](words)), words)


class BertSelfAttention(nn.Module):
    """Every word attends to all real words of its sentence."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        """(T, L, D) and the mask (T, L) of real words to the same shape."""
        q, k, v = (f(words).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.query, self.key, self.value))
        seen = mask[:, None, None, :].expand(-1, -1, mask.shape[1], -1)  # (T, 1, L, L)
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, dropout_p=dropout)  # (T, N, L, D / N)
        return attended.transpose(1, 2).flatten(2)


class Pooler(nn.Module):
    """BERT's pooler: linear layer and tanh on [CLS]. `dense` has the name it has in the published checkpoints."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)

    def forward(self, first: Tensor) -> Tensor:
        """(T, J) vectors of [CLS] to sentences (T, J)."""
        return self.dense(first).tanh()


class _Residual(nn.Module):
    """A Linear layer whose answer is added to what came before, and normalised."""

    def __init__(self, inputs: int, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=EPSILON)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(x)) + before)


def _initialise(module: nn.Module) -> None:
    """Normal of width 0.02, as in BERT's code; biases and [PAD] at zero."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
        if module.padding_idx is not None:
            with torch.no_grad():
                module.weight[module.padding_idx].zero_()
