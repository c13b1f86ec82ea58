"""BERT (Devlin et al. 2019) through transformers: tokens in, one vector per word out."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from transformers import BertConfig as HFBertConfig
from transformers import BertModel

from refseg.types import TextFeatures


@dataclass(frozen=True)
class BertConfig:
    """Shape of a BERT and which of its parts learn.

    Attributes:
        vocab: Size of the vocabulary.
        width: Channels of a word.
        layers: Number of layers.
        heads: Attention heads.
        ffn: Hidden width of the feed-forward networks.
        positions: Rows of the position table.
        dropout: Dropout of hidden states and attention.
        trained_layers: How many layers, from the first, are trained; the rest stays as loaded.
        train_embeddings: Whether the embeddings are trained.
    """

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
    """BERT without its pooler. `model` keeps the parameter names of the published checkpoints."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.model = BertModel(
            HFBertConfig(
                vocab_size=config.vocab,
                hidden_size=config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                intermediate_size=config.ffn,
                max_position_embeddings=config.positions,
                hidden_dropout_prob=config.dropout,
                attention_probs_dropout_prob=config.dropout,
            ),
            add_pooling_layer=False,
        )
        self.model.embeddings.requires_grad_(config.train_embeddings)
        for layer in self.model.encoder.layer[config.trained_layers :]:
            layer.requires_grad_(False)

    @property
    def inert(self) -> dict[str, str]:
        """Names below this module of parameters that cannot learn, with the reason."""
        return {"*.attention.self.key.bias": "adds the same to all scores of a softmax"}

    def forward(self, tokens: Tensor, mask: Tensor) -> TextFeatures:
        """(T, L) token ids and their mask to words (T, L, width), [CLS] and [SEP] included."""
        words = self.model(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        return TextFeatures(words, mask)
