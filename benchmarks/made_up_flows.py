"""A catalogue that is made up: as many records as asked for, the same ones for the same seed.

Origins, organizations, authors and tags are as uneven as real ones: a few are everywhere, most are
rare. Names are unique; descriptions are sentences of a vocabulary in which, as in every language, a
word's frequency falls with its rank; one text in fifty has letters beyond ASCII.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from meshcore.protocol.catalogue.records import Flow, Origin
from meshcore.storage.catalogue import PutFlow, PutOrigin

RECORDS_PER_ORIGIN = 250
ORGANIZATIONS = 40
STARTED = 1_760_000_000.0  # Unix seconds; the first record's `created`

_SYLLABLES = "re si ze ma tra lo con ver ter ing ion ser vi ce da ta ro ki lu po ne shi mo".split()
_FOREIGN = ("Straße", "ÜBERSETZUNG", "naïve", "Łódź", "данные", "画像", "İstanbul", "ﬁlter")
COMMON_WORD, RARE_WORD = "service", "quixotic"


def origins_of(records: int) -> list[Origin]:
    """The nodes that offer so many records."""
    count = max(1, records // RECORDS_PER_ORIGIN)
    return [
        Origin("mesh" if number % 10 else "other", f"node-{number:04}") for number in range(count)
    ]


def put_origins(records: int, *, status: str = "online") -> Iterator[PutOrigin]:
    """The origins, one in ten of them offline."""
    for number, origin in enumerate(origins_of(records)):
        yield PutOrigin(
            origin=origin,
            organization=f"org-{int(ORGANIZATIONS * (number / 97 % 1) ** 2):02}",
            registry=f"hub-{number % 3}",
            incarnation=3,
            version=records,
            direct=number % 3 == 0,
            status="offline" if number % 10 == 7 else status,
            heartbeat=STARTED + number * 0.37,
            at=STARTED,
            ttl=None,
        )


def put_flows(records: int, *, seed: int = 1) -> Iterator[PutFlow]:
    """The records, in an order in which their origins alternate."""
    rng = random.Random(seed)
    words = _vocabulary(rng)
    weights = [1 / (rank + 3) for rank in range(len(words))]
    sentence_words = iter(rng.choices(words, weights, k=records * 30 + 100))
    authors = [f"{_name(rng)} {_name(rng)}" for _ in range(400)]
    tags = [
        f"{rng.choice(words)}-{number}" if number % 3 else rng.choice(words)
        for number in range(300)
    ]
    tags[0] = COMMON_WORD
    kinds = ("flow", "flow", "flow", "action")
    origins = origins_of(records)
    for number in range(records):
        description = " ".join(next(sentence_words) for _ in range(rng.randint(8, 30)))
        if number % 50 == 0:
            description += f" {rng.choice(_FOREIGN)}"
        if number % 997 == 0:
            description += f" {RARE_WORD}"
        origin = origins[number % len(origins)]
        chosen = {tags[int(300 * rng.random() ** 3)] for _ in range(rng.randint(0, 5))}
        flow = Flow(
            url=f"https://{origin.node}.example.org/flows/{rng.randrange(16**6):06x}-{number}",
            name=f"{rng.choice(words).title()} {rng.choice(words)} {rng.randrange(10**6)}",
            description=description.capitalize() + ".",
            author=authors[int(400 * rng.random() ** 2)],
            tags=tuple(sorted(chosen)),
            kind=kinds[number % 4],
        )
        yield PutFlow(origin, flow, 3, number, False, STARTED + rng.randrange(10**7))


def _vocabulary(rng: random.Random) -> list[str]:
    words = {"".join(rng.choices(_SYLLABLES, k=rng.randint(1, 4))) for _ in range(6000)}
    ordered = sorted(words)
    rng.shuffle(ordered)
    ordered[10] = COMMON_WORD
    return ordered


def _name(rng: random.Random) -> str:
    return "".join(rng.choices(_SYLLABLES, k=rng.randint(2, 3))).title()
