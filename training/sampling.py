"""Which examples an epoch shows, in which view, and in which batches."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import Sampler

from training.corpus import Utterance

MEGA_BATCH = 50
"""Batches that are sorted by length together: more saves padding, less mixes better."""


def is_plain(row: Utterance) -> bool:
    """Whether a turn is an agent's with nothing to find: a third of the corpus, and easy."""
    return row.speaker == "agent" and not row.level and not row.triggers


class EpochSampler(Sampler[int]):
    """Draws an epoch from the two views of n utterances: 0…n-1 with context, n…2n-1 without.

    An epoch shows each utterance once, in one of its views, but only a share of the plain
    ones. Batches hold examples of like length and come in random order.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        plain: Sequence[bool],
        *,
        plain_share: float,
        context_dropout: float,
        batch_size: int,
    ) -> None:
        """Take the lengths of 2n views and the flags of n utterances.

        Args:
            lengths: Tokens of each view.
            plain: Which utterances are thinned out.
            plain_share: Share 0–1 of them that an epoch shows.
            context_dropout: Share 0–1 of the utterances that are shown without context.
            batch_size: Examples in one step.
        """
        self._lengths = torch.tensor(lengths)
        flags = torch.tensor(plain)
        self._kept, self._plain = torch.nonzero(~flags).flatten(), torch.nonzero(flags).flatten()
        self._drawn = round(plain_share * len(self._plain))
        self._context_dropout = context_dropout
        self._batch_size = batch_size

    def __len__(self) -> int:
        """Return the number of examples in one epoch."""
        return len(self._kept) + self._drawn

    def __iter__(self) -> Iterator[int]:
        """Draw the next epoch; chance comes from torch's global generator."""
        plain = self._plain[torch.randperm(len(self._plain))[: self._drawn]]
        chosen = torch.cat([self._kept, plain])
        chosen = chosen[torch.randperm(len(chosen))]
        hidden = torch.rand(len(chosen)) < self._context_dropout
        views = chosen + hidden * (len(self._kept) + len(self._plain))
        batches: list[Tensor] = []
        for mega in views.split(MEGA_BATCH * self._batch_size):
            batches += mega[self._lengths[mega].argsort()].split(self._batch_size)
        # Only the last batch may be short: elsewhere it would shift all that follow.
        short = [batch for batch in batches if len(batch) < self._batch_size]
        whole = [batch for batch in batches if len(batch) == self._batch_size]
        order = [whole[i] for i in torch.randperm(len(whole)).tolist()]
        return iter(torch.cat([*order, *short]).tolist())
