"""Which examples an epoch shows, in which view, and in which batches."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
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
    """Draws an epoch from several views of n utterances; view v of utterance i is v * n + i.

    An epoch shows each utterance once, in one of its views, but only a share of the plain
    ones. Batches hold examples of like length and come in random order.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        plain: Sequence[bool],
        view_shares: Sequence[float],
        *,
        plain_share: float,
        batch_size: int,
        seed: int,
    ) -> None:
        """Take the lengths of all views and the flags of n utterances.

        Args:
            lengths: Tokens of each view.
            plain: Which utterances are thinned out.
            view_shares: How often each view is shown, sums to 1.
            plain_share: Share 0–1 of the plain utterances that an epoch shows.
            batch_size: Examples in one step, of all processes together.
            seed: Seed of all epochs.
        """
        self._lengths = torch.tensor(lengths)
        flags = torch.tensor(plain)
        self._kept, self._plain = torch.nonzero(~flags).flatten(), torch.nonzero(flags).flatten()
        self._drawn = round(plain_share * len(self._plain))
        self._view_shares = torch.tensor(view_shares)
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch to draw next, from 0; the Trainer does."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Return the number of examples in one epoch."""
        return len(self._kept) + self._drawn

    def __iter__(self) -> Iterator[int]:
        """Draw the epoch, the same one in every process: each takes its share of every batch."""
        # Not the sum: the next seed would draw the same epochs, one later.
        seed = int(np.random.SeedSequence([self._seed, self._epoch]).generate_state(1)[0])
        chance = torch.Generator().manual_seed(seed)
        shuffled = partial(torch.randperm, generator=chance)
        plain = self._plain[shuffled(len(self._plain))[: self._drawn]]
        chosen = torch.cat([self._kept, plain])
        chosen = chosen[shuffled(len(chosen))]
        count = len(self._kept) + len(self._plain)
        drawn = torch.multinomial(
            self._view_shares, len(chosen), replacement=True, generator=chance
        )
        views = chosen + count * drawn
        batches: list[Tensor] = []
        for mega in views.split(MEGA_BATCH * self._batch_size):
            batches += mega[self._lengths[mega].argsort()].split(self._batch_size)
        # Only the last batch may be short: elsewhere it would shift all that follow.
        short = [batch for batch in batches if len(batch) < self._batch_size]
        whole = [batch for batch in batches if len(batch) == self._batch_size]
        order = [whole[i] for i in shuffled(len(whole)).tolist()]
        return iter(torch.cat([*order, *short]).tolist())
