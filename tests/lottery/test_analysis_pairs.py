"""Which masks and networks are compared: those that differ in one thing."""

import itertools
import time
from functools import lru_cache

import msgspec

from lottery.analysis.pairs import MaskAt, MaskPair, Network, NetworkPair, line_ends, mask_pairs, network_pairs
from lottery.experiment.sections import Iterative, Masks
from lottery.tickets.tickets import Ticket
from tests.lottery.small_training import config as small

ONE_SHOT = msgspec.structs.replace(small(), masks=Masks((0.5, 0.1)))


def at(level, density, replicate=0, chain=(), run="mine"):
    return MaskAt(run, replicate, level, density, chain)


def test_masks_of_replicates_and_of_neighbouring_levels_are_compared():
    masks = [at(level, density, seed) for level, density in ((0, 0.5), (2, 0.2), (5, 0.1)) for seed in (0, 7)]
    assert mask_pairs(masks) == [
        MaskPair("level", masks[0], masks[2]),
        MaskPair("level", masks[1], masks[3]),
        MaskPair("replicate", masks[0], masks[1]),
        MaskPair("level", masks[2], masks[4]),
        MaskPair("level", masks[3], masks[5]),
        MaskPair("replicate", masks[2], masks[3]),
        MaskPair("replicate", masks[4], masks[5]),
    ]


def test_the_pairs_of_many_masks_are_found_in_seconds():
    masks = [at(level, 0.9**level, chain=(order, 0)) for level in range(60) for order in range(20)]
    begun = time.process_time()
    assert len(mask_pairs(masks)) == 59 * 20 + 60 * 190
    assert time.process_time() - begun < 10  # 0.4 s; 26 s if it looked at all masks for each pair


def test_rounds_follow_within_their_chain_and_chains_differ_in_one_thing():
    first = at(0, 0.8)
    rounds = [at(1, 0.64, chain=chain) for chain in itertools.product((0, 1), (0, 44))]
    pairs = mask_pairs([first, *rounds])
    assert [pair for pair in pairs if pair.kind == "level"] == [MaskPair("level", first, each) for each in rounds]
    chains = [(pair.one.chain, pair.other.chain) for pair in pairs if pair.kind == "chain"]
    assert chains == [((0, 0), (0, 44)), ((1, 0), (1, 44)), ((0, 0), (1, 0)), ((0, 44), (1, 44))]
    assert len(pairs) == 8


def test_few_masks_in_memory_are_enough():
    chains = itertools.product(range(10), range(8))
    masks = [at(1, 0.5, seed, chain) for chain in chains for seed in range(6)]
    for kind, times in (("chain", 2), ("replicate", 1)):
        read = lru_cache(32)(lambda mask: mask)
        for pair in mask_pairs(masks):
            if pair.kind == kind:
                for mask in (pair.one, pair.other):
                    read(mask)
        assert read.cache_info().misses <= times * len(masks), kind


def test_masks_of_other_runs_are_compared_at_the_nearest_density():
    own = [at(0, 0.41), at(1, 0.21), at(2, 0.02)]
    theirs = [at(level, 0.8 ** (level + 1), run="theirs") for level in range(10)]
    of_runs = [pair for pair in mask_pairs(own, theirs) if pair.kind == "run"]
    assert of_runs == [MaskPair("run", own[0], theirs[3]), MaskPair("run", own[1], theirs[6])]
    elsewhere = [at(0, 0.41, replicate=1, run="theirs")]
    assert mask_pairs(own[:1], elsewhere) == []  # another replicate differs in two things
    chain = [at(0, 0.41, chain=(0, 44), run="theirs")]
    assert mask_pairs(own[:1], chain) == [MaskPair("run", own[0], chain[0])]


def test_lines_are_between_all_pairs_of_orders_from_the_same_state():
    tickets = [Ticket(1, 5, seed=seed) for seed in (0, 1, 4)]
    assert line_ends(tickets, ONE_SHOT) == list(itertools.combinations(tickets, 2))
    others = [Ticket(0, 5), Ticket(1, 0, seed=1), Ticket(1, 5, "shuffle", 0), Ticket(1, 5, "shuffle", 1)]
    assert line_ends(others, ONE_SHOT) == []
    continued = [Ticket(0, 5, "continue", seed) for seed in (0, 1)]
    assert line_ends([*continued, *others], ONE_SHOT) == [tuple(continued)]


def test_later_rounds_have_masks_of_their_own_for_each_order_and_so_no_line():
    iterative = msgspec.structs.replace(ONE_SHOT, masks=Masks(iterative=Iterative(keep=0.8, rounds=3)))
    tickets = [Ticket(level, 0, seed=seed) for level in range(3) for seed in (0, 1)]
    assert line_ends(tickets, iterative) == [(Ticket(0, 0), Ticket(0, 0, seed=1))]


def test_networks_differ_in_one_thing():
    dense, ticket = Network(0, None), Network(0, Ticket(0, 0))
    reset, order, replicate = Network(0, Ticket(0, 9)), Network(0, Ticket(0, 0, seed=1)), Network(3, Ticket(0, 0))
    left_out = [
        Network(0, Ticket(1, 0, "reinit")),
        Network(3, Ticket(0, 9, seed=2)),
        Network(4, None),
        Network(5, Ticket(1, 0, seed=5)),
    ]
    assert network_pairs([replicate, order, *left_out, reset, ticket, dense]) == [
        NetworkPair("dense", dense, ticket),
        NetworkPair("dense", dense, order),
        NetworkPair("dense", dense, reset),
        NetworkPair("order", ticket, order),
        NetworkPair("reset", ticket, reset),
        NetworkPair("replicate", ticket, replicate),
    ]
