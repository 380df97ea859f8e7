"""Lock-out after failures: hand-computed waits on a clock of our own."""

from sam_adapters.login import lockout
from sam_adapters.login.lockout import Lockout
from sam_adapters.login.login_desk import network_of


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def make(clock: Clock) -> Lockout:
    return Lockout(free=3, first=10, longest=60, forget=600, clock=clock)


def test_the_wait_doubles_up_to_the_longest() -> None:
    clock = Clock()
    locks = make(clock)
    waits = []
    for _ in range(7):
        locks.begin("anna")
        waits.append(locks.wait("anna"))
        clock.now += locks.wait("anna")
        assert locks.wait("anna") == 0
    assert waits == [0, 0, 10, 20, 40, 60, 60]
    assert locks.wait("bert") == 0


def test_the_wait_runs_down() -> None:
    clock = Clock()
    locks = make(clock)
    for _ in range(3):
        locks.begin("anna")
    clock.now += 4
    assert locks.wait("anna") == 6


def test_success_forgets_all_and_an_excuse_takes_back_one() -> None:
    locks = make(Clock())
    for _ in range(3):
        locks.begin("anna")
        locks.begin("10.0.0.1")
    locks.succeeded("anna")
    assert locks.wait("anna") == 0
    locks.excused("10.0.0.1")
    assert locks.wait("10.0.0.1") == 0
    locks.begin("anna")
    locks.begin("10.0.0.1")
    assert locks.wait("anna") == 0
    assert locks.wait("10.0.0.1") == 10


def test_quiet_keys_start_afresh() -> None:
    clock = Clock()
    locks = make(clock)
    for _ in range(4):
        locks.begin("anna")
    clock.now += 601
    locks.begin("anna")
    assert locks.wait("anna") == 0


def test_memory_is_bounded() -> None:
    locks = make(Clock())
    for number in range(lockout.MAX_KEYS + 10):
        locks.begin(str(number))
    assert len(locks._records) == lockout.MAX_KEYS


def test_one_machine_is_one_address() -> None:
    assert network_of("10.1.2.3") == network_of("::ffff:10.1.2.3") == "10.1.2.3"
    assert network_of("2001:db8:1:2:3:4:5:6") == network_of("2001:db8:1:2::9") == "2001:db8:1:2::/64"
    assert network_of("fe80::1%eth0") == "fe80::/64"
    assert network_of("") == ""
