"""Ctrl-C: once asks, twice stops at once; the handlers of before come back."""

import os
import signal
import threading

import pytest

from oche.core.signals import Interrupt


def send(number):
    os.kill(os.getpid(), number)
    for _ in range(1000):  # handlers run between instructions of the main thread
        pass


@pytest.fixture(autouse=True)
def handlers():
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    yield before
    assert {n: signal.getsignal(n) for n in before} == before


def test_once_asks_and_says_so(capfd):
    with Interrupt() as interrupt:
        assert not interrupt.asked
        send(signal.SIGINT)
        assert interrupt.asked
    assert "stopping after this step" in capfd.readouterr().err


def test_twice_stops_at_once(capfd):
    with pytest.raises(KeyboardInterrupt), Interrupt() as interrupt:
        send(signal.SIGINT)
        assert interrupt.asked
        send(signal.SIGINT)
    assert capfd.readouterr().err.count("stopping") == 1


def test_sigterm_asks_however_often(capfd):
    with Interrupt() as interrupt:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        assert interrupt.asked
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    assert capfd.readouterr().err.count("stopping") == 1


def test_a_signal_to_ignore_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as nohup and & start a program
    try:
        with Interrupt() as interrupt:
            send(signal.SIGINT)
            assert not interrupt.asked
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_afterwards_ctrl_c_is_what_it_was():
    with Interrupt():
        pass
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)


def test_outside_the_main_thread_it_does_nothing(handlers):
    seen = []

    def work():
        with Interrupt() as interrupt:
            seen.append((interrupt.asked, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, handlers[signal.SIGINT])]


def test_what_is_asked_in_one_is_asked_in_both(capfd):
    with Interrupt() as outer:
        with Interrupt() as inner:
            assert not inner.asked
            send(signal.SIGTERM)
            assert inner.asked and not outer.asked
        assert outer.asked
        with Interrupt() as next_one:
            assert next_one.asked
    with Interrupt() as other:
        assert not other.asked
