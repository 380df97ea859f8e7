import threading
import time

from sam_adapters.priority_lock import Priority, PriorityLock

DEADLINE = 30.0


def test_is_granted_in_the_order_of_asking() -> None:
    lock, order = PriorityLock(), []
    threads = []
    deadline = time.monotonic() + DEADLINE

    def work(number: int) -> None:
        with lock.turn():
            order.append(number)

    with lock.turn():
        for number in range(5):
            threads.append(threading.Thread(target=work, args=(number,)))
            threads[-1].start()
            while lock.waiting <= number and time.monotonic() < deadline:
                pass
    with lock.turn():  # asked for last: all the others come first
        order.append("last")
    for thread in threads:
        thread.join(timeout=DEADLINE)
    assert order == [0, 1, 2, 3, 4, "last"]


def test_the_most_urgent_comes_first_and_equals_in_the_order_of_asking() -> None:
    lock, order = PriorityLock(), []
    asked = [Priority.BACKGROUND, Priority.VOLUME, Priority.CLICK, Priority.PREFETCH, Priority.VOLUME, Priority.CLICK]
    deadline = time.monotonic() + DEADLINE

    def work(number: int, priority: Priority) -> None:
        with lock.turn(priority):
            order.append(number)

    threads = [threading.Thread(target=work, args=(number, priority)) for number, priority in enumerate(asked)]
    with lock.turn():
        for number, thread in enumerate(threads):
            thread.start()
            while lock.waiting <= number and time.monotonic() < deadline:
                pass
    for thread in threads:
        thread.join(timeout=DEADLINE)
    assert order == [2, 5, 3, 1, 4, 0]


def test_a_greedy_loop_does_not_keep_others_out() -> None:
    lock, turns, stop = PriorityLock(), [], threading.Event()

    def greedy() -> None:
        while not stop.is_set():
            with lock.turn():
                turns.append("greedy")

    thread = threading.Thread(target=greedy)
    thread.start()
    for _ in range(20):
        with lock.turn():
            turns.append("click")
    stop.set()
    thread.join(timeout=DEADLINE)
    assert not thread.is_alive()
    assert turns.count("click") == 20


def test_only_one_thread_is_inside() -> None:
    lock, inside, seen = PriorityLock(), [], []

    def work() -> None:
        for _ in range(200):
            with lock.turn():
                inside.append(1)
                seen.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=DEADLINE)
    assert seen == [1] * 800


def test_is_released_when_the_body_fails() -> None:
    lock = PriorityLock()
    try:
        with lock.turn():
            raise ValueError
    except ValueError:
        pass
    with lock.turn():
        assert lock.waiting == 0


def test_while_somebody_clicks_nothing_less_urgent_is_begun() -> None:
    lock, order = PriorityLock(), []

    def work(name: str, priority: Priority) -> None:
        with lock.turn(priority):
            order.append(name)

    deadline = time.monotonic() + DEADLINE
    with lock.only_clicks(), lock.only_clicks():
        thread = threading.Thread(target=work, args=("prefetch", Priority.PREFETCH))
        thread.start()
        while lock.waiting < 1 and time.monotonic() < deadline:
            pass
        for number in range(3):
            work(f"click {number}", Priority.CLICK)
        assert order == ["click 0", "click 1", "click 2"]
    thread.join(timeout=DEADLINE)
    assert order[-1] == "prefetch"
    with lock.turn(Priority.BACKGROUND):
        assert lock.waiting == 0
