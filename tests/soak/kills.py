"""Kill -9 and restart ten times over: leaf, relay, controller; calls fail promptly and come back.

Options: the number of rounds, names of roles.
"""

from __future__ import annotations

from tests.e2e import kills

ROLES = ("leaf", "relay", "controller")


def main(arguments: list[str]) -> int:
    rounds = next((int(argument) for argument in arguments if argument.isdigit()), 10)
    roles = [argument for argument in arguments if not argument.isdigit()] or ROLES
    failed = 0
    for role in roles:
        try:
            for measured in kills.run(role, 2 * rounds if role == "relay" else rounds):
                print(f"{role}: {measured}", flush=True)
        except AssertionError as error:
            failed += 1
            print(f"{role}: FAILED: {error}", flush=True)
    return 1 if failed else 0
