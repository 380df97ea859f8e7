"""What members do to a real federation: the attacks of `benchmarks/attacks.py`, and those that need a real past or real bytes."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.attacks import attacks as simulated
from benchmarks.simulated_federation import Attacker, Move

HONEST = ("north", "east", "south", "west")
MOLES = ("mole", "mole-2")


@dataclass(frozen=True)
class RealAttack:
    """An attack on a federation of four honest sites.

    Attributes:
        name: in the table.
        make: the attacker.
        moves: what it does in its first round, its second, ...: `attack`, `honest` or `silent`.
        beside: name of what the mixtures are compared with; "" for the federation that the attacker's site never joined.
        moles: how many attackers.
        is_value: whether what it sends are adapters that can be averaged, so that plain FedAvg must feel it.
        refused: whether the server has to refuse it in the first round in which it attacks.
    """

    name: str
    make: Callable[[], Attacker]
    moves: tuple[str, ...] = ("attack",)
    beside: str = ""
    moles: int = 1
    is_value: bool = True
    refused: bool = True


def _same_message(move: Move, payload: bytes) -> bytes:
    """The very bytes of the round before."""
    kept: dict[int, bytes] = move.memory["payloads"]
    return kept[max(kept)]


def _attacks() -> tuple[RealAttack, ...]:
    make = {one.name: one.make for one in simulated()}
    return (
        RealAttack("(nobody)", Attacker, ("never",) * 2, moles=0, is_value=False, refused=False),
        RealAttack("sign flip x 8", make["sign flip x 8"], ("attack", "attack")),
        RealAttack("malformed bytes", make["malformed bytes"], is_value=False),
        RealAttack("another site's name", lambda: Attacker(name=HONEST[0]), is_value=False),
        RealAttack("NaN", make["NaN"]),
        RealAttack("honest probe, poisoned update", make["honest probe, poisoned update"]),
        RealAttack("probe that claims no noise", make["probe that claims no noise"], is_value=False),
        RealAttack("oversized payload", make["oversized payload"], is_value=False),
        RealAttack("scaling x 100", make["scaling x 100"]),
        RealAttack("zero", make["zero"]),
        RealAttack("random values", make["random values"]),
        RealAttack("(an honest member)", Attacker, ("honest",) * 2, is_value=False, refused=False),
        RealAttack("slow drift", make["slow drift"], ("attack",) * 2, "(an honest member)", refused=False),
        RealAttack("backdoor-like", make["backdoor-like"], beside="(an honest member)", refused=False),
        RealAttack("sign flip x 8 that claims privacy noise", make["sign flip x 8, said to be noised"]),
        RealAttack("constant, two alike", make["constant, 2 of 8 alike"], moles=2),
        RealAttack("(falls silent)", Attacker, ("honest", "silent"), is_value=False, refused=False),
        RealAttack("old round's message", lambda: Attacker(message=_same_message), ("honest", "attack"), "(falls silent)", is_value=False),
        RealAttack("(honest for three rounds)", Attacker, ("honest",) * 3, is_value=False, refused=False),
        RealAttack(
            "old round's adapters as new",
            make["old round's adapters as new"],
            ("honest", "honest", "attack"),
            "(honest for three rounds)",
            is_value=False,
            refused=False,
        ),
    )


ATTACKS = {one.name: one for one in _attacks()}
