"""Ctrl-C ends a wait of the generator, and nothing else."""

import signal
import threading

import pytest

from pixelserve.bench.timeline import RealTime


def test_ctrl_c_between_waits_is_kept_for_the_next_wait() -> None:
    """
    1. SIGINT comes while a request is being started: nothing is raised there.
    2. The next wait raises, although what it waits for has happened.
    """
    timeline = RealTime()
    happened = threading.Event()
    happened.set()
    with timeline.taking_ctrl_c():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            timeline.wait(happened)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_during_a_wait_ends_it() -> None:
    class Event(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("the wait went on")

    timeline = RealTime()
    with timeline.taking_ctrl_c(), pytest.raises(KeyboardInterrupt):
        timeline.wait(Event())


@pytest.mark.parametrize("how", ["wait", "sleep_until"])
def test_ctrl_c_that_comes_just_before_a_wait_ends_it(how: str) -> None:
    """
    1. The main thread waits for what happens in 10 s or more.
    2. Another thread takes SIGINT, so that the main thread's system call is not interrupted, as where the signal comes
       in the moment before it.
    3. The wait ends all the same.
    """
    happened = threading.Event()
    timeline = RealTime()
    waits = {
        "wait": lambda: timeline.wait(happened),
        "sleep_until": lambda: timeline.sleep_until(timeline.now_s() + 30),
    }

    def press() -> None:
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    timers = [threading.Timer(0.2, press), threading.Timer(10, happened.set)]
    with timeline.taking_ctrl_c():
        for timer in timers:
            timer.start()
        with pytest.raises(KeyboardInterrupt):
            waits[how]()
    for timer in timers:
        timer.cancel()
    assert not happened.is_set()


def test_another_handler_is_left_alone() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with RealTime().taking_ctrl_c():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_than_the_main_one_do_not_take_ctrl_c() -> None:
    found: list[object] = []

    def run() -> None:
        with RealTime().taking_ctrl_c():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]
