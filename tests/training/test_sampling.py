import pytest
import torch
from accelerate.data_loader import prepare_data_loader
from conversations import utterance
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from training.examples import view_shares
from training.sampling import EpochSampler, is_plain


@pytest.mark.parametrize(
    ("changes", "plain"),
    [
        ({"speaker": "agent", "triggers": []}, True),
        ({"speaker": "agent", "triggers": ["policy"]}, False),
        ({"speaker": "agent", "triggers": [], "level": 1}, False),
        ({"speaker": "customer", "triggers": []}, False),
    ],
)
def test_plain_is_an_agents_turn_with_nothing_to_find(changes, plain):
    assert is_plain(utterance(**changes)) == plain


@given(st.lists(st.booleans(), min_size=1, max_size=200), st.integers(1, 9), st.integers(0, 99))
def test_an_epoch_shows_every_utterance_once_and_a_share_of_the_plain_ones(plain, batch_size, seed):
    plain = [False, *plain]
    count = len(plain)
    lengths = [1 + (7 * place) % 50 for place in range(3 * count)]
    sampler = EpochSampler(
        lengths, plain, [0.5, 0.25, 0.25], plain_share=0.5, batch_size=batch_size, seed=seed
    )
    shown = [place % count for place in sampler]
    assert len(shown) == len(sampler) == len(set(shown))
    assert {i for i in shown if not plain[i]} == {i for i in range(count) if not plain[i]}
    assert sum(plain[i] for i in shown) == round(0.5 * sum(plain))


def test_batches_hold_like_lengths_and_views_come_as_often_as_asked():
    torch.manual_seed(1)
    count = 3000
    lengths = torch.randint(5, 100, (4 * count,)).tolist()
    sampler = EpochSampler(
        lengths, [False] * count, view_shares(0.3, 0.2), plain_share=1.0, batch_size=10, seed=1
    )
    order = list(sampler)
    batches = [order[start : start + 10] for start in range(0, len(order), 10)]
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    assert padded < 1.05 * sum(lengths[i] for i in order)
    longest = [max(lengths[i] for i in batch) for batch in batches]
    assert longest != sorted(longest)
    shares = torch.bincount(torch.tensor(order) // count) / len(order)
    assert shares.tolist() == pytest.approx([0.56, 0.24, 0.14, 0.06], abs=0.03)
    sampler.set_epoch(1)
    assert sorted(sampler) != sorted(order)  # another epoch draws other views


@pytest.mark.parametrize("epoch", [0, 3])
def test_processes_share_every_batch_of_the_epoch_that_one_alone_draws(epoch):
    def batches(processes, process):
        torch.manual_seed(process)  # what a process drew before must not matter
        sampler = EpochSampler(
            [5, 9, 3, 7] * 30, [False] * 60, [0.5, 0.5], plain_share=1.0, batch_size=12, seed=4
        )
        loader = prepare_data_loader(
            DataLoader(range(120), batch_size=12 // processes, sampler=sampler),
            num_processes=processes,
            process_index=process,
        )
        loader.set_epoch(epoch)
        return [batch.tolist() for batch in loader]

    alone, first, second = batches(1, 0), batches(2, 0), batches(2, 1)
    assert [a + b for a, b in zip(first, second, strict=True)] == alone
    assert len(alone) == 5
