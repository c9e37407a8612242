"""Meshes of 12 to 16 processes in every shape: they agree within 5 s, pings take 20 ms at most.

Options: names of shapes, else all of them; a number is the seed of the random ones.
"""

from __future__ import annotations

import random

from tests.e2e import topologies

SIZES = (12, 16)


def main(arguments: list[str]) -> int:
    numbers = [int(argument) for argument in arguments if argument.isdigit()]
    seed = numbers[0] if numbers else random.SystemRandom().randrange(10_000)
    shapes = [argument for argument in arguments if not argument.isdigit()]
    failed = 0
    for shape in shapes or topologies.SHAPES:
        for size in SIZES:
            try:
                measured = topologies.run(shape, size, seed)
            except AssertionError as error:
                failed += 1
                print(f"{shape} of {size}, seed {seed}: FAILED: {error}", flush=True)
            else:
                print(f"{shape} of {size}, seed {seed}: {measured}", flush=True)
    return 1 if failed else 0
