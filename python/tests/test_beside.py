"""The pytest plugin among others: what it must not cost them, and what tests do to the world around it."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import vmint

from conftest import Home
from test_plugin import LOSES_ITS_MACHINE, go, said, session

__all__ = ["session"]

PANICS = """
import vmint

def count(name):
    with open(name, "a") as file:
        file.write("x")

def panic(machine):
    machine.exec("sleep 0.1; echo c > /proc/sysrq-trigger; sleep 99")
"""


def lines(session: pytest.Pytester, name: str) -> str:
    return (session.path / name).read_text()


# A guest's own doing is a failure


def test_a_test_whose_guest_has_panicked_is_never_run_again(session: pytest.Pytester, home: Home) -> None:
    session.makepyfile(
        PANICS
        + """
import pytest

@pytest.mark.parametrize("n", range(12))
def test_panics(vm, n):
    count(f"panics{n}")
    panic(vm)

@pytest.mark.vmint(cpus=2)
@pytest.mark.parametrize("n", range(4))
def test_panics_silently(vm, n):
    count(f"silent{n}")
    vm.exec("echo 0 > /proc/sys/kernel/printk")
    panic(vm)

def test_the_worker_panics(worker_vm):
    count("worker")
    panic(worker_vm)
"""
    )
    result = go(session, "--vmint-rerun-lost", "3")
    result.assert_outcomes(failed=17)
    for name in [*(f"panics{n}" for n in range(12)), *(f"silent{n}" for n in range(4)), "worker"]:
        assert lines(session, name) == "x", said(result)
    # Evidence outlives its subject.
    assert said(result).count("Kernel panic - not syncing: sysrq triggered crash") >= 13


def test_a_panic_is_not_covered_by_the_death_of_the_host_s_process(session: pytest.Pytester, home: Home) -> None:
    """The guest has said its last words, but its kernel stands still: then QEMU is killed."""
    session.makepyfile(
        LOSES_ITS_MACHINE
        + """
def test_it(vm):
    with open("count", "a") as file:
        file.write("x")
    vm.exec("echo '[    1.0] Kernel panic - not syncing: it stands still' > /dev/console; sync")
    lose(vm)
"""
    )
    go(session, "--vmint-rerun-lost", "2").assert_outcomes(failed=1)
    assert lines(session, "count") == "x"


# What a lost machine leaves


@pytest.mark.parametrize("victim", ["hypervisor", "runner"])
def test_the_console_of_a_lost_machine_is_in_the_report(session: pytest.Pytester, home: Home, victim: str) -> None:
    session.makepyfile(
        f"""
        import os, signal

        def test_it(vm):
            vm.exec("echo before the loss > /dev/console")
            os.kill(vm.info()["{victim}"]["pid"], signal.SIGKILL)
            vm.exec("sleep 99")
        """
    )
    result = go(session, "--vmint-keep-failed")
    result.assert_outcomes(failed=1)
    assert "before the loss" in said(result)
    assert "could not be kept" in said(result) and "was lost" in said(result)


# Settings


def test_settings_are_read_once_from_the_rootdir_whatever_tests_do(session: pytest.Pytester, home: Home) -> None:
    session.makefile(".ini", pytest="[pytest]\n")
    session.makefile(".toml", vmint='[defaults]\nmemory = "128M"\n')
    elsewhere = session.mkdir("elsewhere")
    (elsewhere / "vmint.toml").write_text('[defaults]\nmemory = "192M"\n')
    session.makepyfile(
        """
        import pathlib
        import pytest

        @pytest.fixture(autouse=True, params=range(2))
        def elsewhere(request, monkeypatch):
            monkeypatch.chdir("elsewhere" if request.param == 0 else ".")
            monkeypatch.setenv("VMINT_MEMORY", "256M")
            (request.config.rootpath / "vmint.toml").write_text("nonsense")

        def test_it(vm, fresh_vm):
            for machine in (vm, fresh_vm()):
                assert machine.info()["spec"]["memory"] == 128 << 20
        """
    )
    go(session, "--rootdir", str(session.path)).assert_outcomes(passed=2)
    # And when they are wrong, that is told before any test is run.
    wrong = go(session, "--rootdir", str(session.path))
    assert wrong.ret == pytest.ExitCode.USAGE_ERROR and "vmint.toml:1" in said(wrong)


@pytest.mark.parametrize(
    "arguments, ini, told",
    [
        (["--vmint-rerun-lost", "-1"], "", "--vmint-rerun-lost must be a number of reruns, 0 or more, not '-1'"),
        (["--vmint-rerun-lost=x"], "", "0 or more, not 'x'"),
        ([], "vmint_rerun_lost = x", "0 or more, not 'x' (in pytest.ini)"),
        ([], "vmint_cpus = many", "--vmint-cpus must be a number of processors, not 'many'"),
        (["--vmint-timeout", "0"], "", "above 0, not '0'"),
        (["--vmint-timeout", "nan"], "", "above 0, not 'nan'"),
        (["--vmint-on-pressure", "hope"], "", "one of wait, skip, fail, not 'hope'"),
        (["--vmint-figures", "none/such.json"], "", "--vmint-figures must be a file in a folder that exists"),
        (["--vmint-memory", "12Q"], "", "12Q"),
    ],
)
def test_a_wrong_option_is_told_at_the_start(
    session: pytest.Pytester, empty_home: Path, arguments: list[str], ini: str, told: str
) -> None:
    session.makefile(".ini", pytest=f"[pytest]\n{ini}\n")
    session.makepyfile("def test_it(vm):\n    pass\n")
    result = go(session, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR and told in said(result)
    assert "INTERNALERROR" not in said(result) and not empty_home.exists()


def test_figures_that_cannot_be_written_hide_nothing(session: pytest.Pytester, home: Home) -> None:
    session.makepyfile(
        """
        import os, shutil

        def test_it(vm):
            shutil.rmtree("out")
            assert False, "the failure"
        """
    )
    session.mkdir("out")
    result = go(session, "--vmint-figures", "out/figures.json")
    result.assert_outcomes(failed=1)
    assert "the failure" in said(result) and "the figures could not be written" in said(result)


# Other plugins


def test_reruns_and_flakiness_of_other_plugins_go_on(session: pytest.Pytester, home: Home) -> None:
    session.makepyfile(
        LOSES_ITS_MACHINE
        + """
from flaky import flaky

def fails_once(name):
    if not os.path.exists(name):
        open(name, "x").close()
        assert False

@pytest.mark.flaky(reruns=1)
def test_of_rerunfailures(vm):
    fails_once("a")

@flaky
def test_of_flaky(vm):
    vm.exec("true", check=True)
    fails_once("b")

@pytest.mark.flaky(reruns=1)
def test_of_both(vm):
    if first_time():
        lose(vm)
    fails_once("c")
"""
    )
    result = go(session, "--vmint-rerun-lost", "1", "-p", "no:flaky", "-k", "not test_of_flaky")
    result.assert_outcomes(passed=2)
    assert "2 rerun" in said(result), "those of pytest-rerunfailures"
    assert "run again because their machine was lost: 1" in said(result)
    flaky = go(session, "--vmint-rerun-lost", "1", "-p", "no:rerunfailures", "-k", "test_of_flaky")
    flaky.assert_outcomes(passed=1)


def test_a_test_that_stops_the_clock_does_not_stop_the_session(session: pytest.Pytester, home: Home) -> None:
    session.makepyfile(
        LOSES_ITS_MACHINE
        + """
@pytest.mark.freeze_time("2001-01-01")
def test_it(vm):
    if first_time():
        lose(vm)
    vm.exec("true", check=True)

@pytest.mark.freeze_time("2001-01-01")
def test_fails(vm):
    vm.exec("poweroff -f; sleep 9")
"""
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--vmint-rerun-lost", "1"],
        cwd=session.path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "run again because their machine was lost: 1" in done.stdout


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_junit_has_each_test_once(session: pytest.Pytester, home: Home, arguments: tuple[str, ...]) -> None:
    session.makepyfile(
        LOSES_ITS_MACHINE
        + """
def test_loses_once(vm):
    if first_time():
        lose(vm)

def test_loses(vm):
    lose(vm)
"""
    )
    result = go(session, "--vmint-rerun-lost", "1", "--junit-xml", "junit.xml", *arguments)
    result.assert_outcomes(passed=1, failed=1)
    suite = ElementTree.parse(session.path / "junit.xml").getroot()[0]
    names = sorted(str(case.get("name")) for case in suite.findall("testcase"))
    assert names == ["test_loses", "test_loses_once"]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
    assert len(suite.findall(".//property[@name='vmint_reruns']")) == 2


# Marks, and fixtures that are asked for by name


def test_a_mark_that_cannot_be_honoured_is_an_error_at_collection(session: pytest.Pytester, empty_home: Path) -> None:
    session.makepyfile(
        """
        import pytest

        @pytest.mark.vmint(memory="192M")
        def test_it(worker_vm):
            pass
        """
    )
    result = go(session)
    assert result.ret == pytest.ExitCode.USAGE_ERROR and "use clean_worker_vm or vm" in said(result)
    assert not empty_home.exists()


@pytest.mark.parametrize("fixture", ["vm", "clean_worker_vm", "worker_vm"])
def test_what_a_test_really_used_counts(session: pytest.Pytester, home: Home, fixture: str) -> None:
    session.makepyfile(
        LOSES_ITS_MACHINE
        + f"""
@pytest.fixture(params=["{fixture}"])
def any_machine(request):
    return request.getfixturevalue(request.param)

def test_fails(any_machine, request):
    any_machine.exec("echo on the console > /dev/console; touch /tmp/here", check=True)
    assert False

def test_is_run_again(any_machine):
    if first_time():
        lose(any_machine)
    any_machine.exec("true", check=True)
"""
    )
    result = go(session, "--vmint-rerun-lost", "1", "--vmint-keep-failed")
    result.assert_outcomes(passed=1, failed=1)
    assert "on the console" in said(result)
    (name,) = [line.rpartition(" ")[2] for line in said(result).splitlines() if line.startswith("kept: ")]
    kept = vmint.Machine(name)
    kept.exec("test -e /tmp/here", check=True)
    kept.remove()
    assert "run again because their machine was lost: 1" in said(result)


def test_a_loss_inside_a_group_is_seen_and_a_failure_beside_it_too(session: pytest.Pytester, home: Home) -> None:
    session.makepyfile(
        LOSES_ITS_MACHINE
        + """
class Group(Exception):  # as ExceptionGroup, which Python has from 3.11
    def __init__(self, *exceptions):
        super().__init__("group")
        self.exceptions = exceptions

def grouped(vm, *others):
    try:
        lose(vm)
    except Exception as error:
        raise Group(Group(error), *others)

def test_alone(vm):
    if first_time():
        grouped(vm)

def test_with_a_failure(vm):
    with open("count", "a") as file:
        file.write("x")
    grouped(vm, AssertionError("its own"))
"""
    )
    result = go(session, "--vmint-rerun-lost", "1")
    result.assert_outcomes(passed=1, failed=1)
    assert lines(session, "count") == "x"


# More than one machine


def test_several_machines_of_one_test(session: pytest.Pytester, home: Home) -> None:
    session.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("n", range(3))
        def test_it(vms, n):
            one, two, three = vms(3)
            (four,) = vms(1)
            for machine in (one, two, three, four):
                machine.exec("test ! -e /tmp/dirt && touch /tmp/dirt", check=True)
            assert len({machine.id for machine in (one, two, three, four)}) == 4

        def test_wrong(vms):
            with pytest.raises(ValueError):
                vms(0)
        """
    )
    result = go(session, "-n", "2")
    result.assert_outcomes(passed=4)
    assert "left over: 0" in said(result)


def test_explain_shows_machines_and_makes_none(session: pytest.Pytester, empty_home: Path) -> None:
    session.makefile(".toml", vmint="[defaults]\ncpus = 2\n")
    session.makepyfile(
        """
        import pytest

        def test_plain():
            pass

        @pytest.mark.vmint(net="nat")
        def test_vm(vm):
            pass

        def test_worker(worker_vm, fresh_vm):
            pass
        """
    )
    for arguments in ((), ("-n", "2")):
        result = go(session, "--vmint-explain", "--vmint-image", "deb", *arguments)
        assert result.ret in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED), said(result)
        told = said(result)
        assert "vm: a fresh machine, lent from a pool of the session's own: image deb (--vmint-image)" in told
        assert "memory 128 MiB (pytest.ini), cpus 2 (vmint.toml or default), net nat (mark)" in told
        assert "fresh_vm: machines of its own" in told and "for the whole session" in told
        assert "ask for no machine by their arguments: 1" in told
        assert not empty_home.exists()
