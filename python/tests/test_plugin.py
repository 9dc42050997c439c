"""The pytest plugin, in sessions of pytest that are run for the purpose, on real machines."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
import vmint

from conftest import Home, assert_empty, run, wait_until

INI = """
[pytest]
vmint_memory = 128M
"""
EVERY_FIXTURE = """
import pytest

def test_plain():
    pass

def test_vm(vm):
    vm.exec("true", check=True)

@pytest.fixture
def through(vm):
    return vm

def test_through_another(through):
    through.exec("true", check=True)

def test_worker(worker_vm):
    pass

def test_clean(clean_worker_vm):
    pass

def test_fresh(fresh_vm):
    fresh_vm()
"""


@pytest.fixture
def session(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Where sessions are run."""
    pytester.makefile(".ini", pytest=INI)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    return pytester


def go(session: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return session.runpytest_subprocess("-p", "no:cacheprovider", *arguments)


def said(result: pytest.RunResult) -> str:
    return result.stdout.str() + result.stderr.str()


def kept(result: pytest.RunResult) -> list[str]:
    return re.findall(r"^kept: vmint shell (\S+)", said(result), re.MULTILINE)


# Choosing tests


def test_tests_are_marked_by_the_fixtures_they_use(session: pytest.Pytester, empty_home: Path) -> None:
    session.makepyfile(EVERY_FIXTURE)

    def chosen(expression: str) -> set[str]:
        result = go(session, "--collect-only", "-q", "-m", expression)
        return set(re.findall(r"::(\w+)$", said(result), re.MULTILINE))

    assert chosen("not vm") == {"test_plain"}
    assert chosen("vm_cold") == {"test_fresh"}
    assert chosen("vm and not vm_cold") == {"test_vm", "test_through_another", "test_worker", "test_clean"}
    assert not empty_home.exists()


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_neither_collecting_nor_the_fast_tier_touches_anything(
    session: pytest.Pytester, empty_home: Path, arguments: tuple[str, ...]
) -> None:
    session.makepyfile(EVERY_FIXTURE)
    assert go(session, "--collect-only", *arguments).ret == 0
    assert not empty_home.exists()
    result = go(session, "-m", "not vm", *arguments)
    result.assert_outcomes(passed=1, deselected=0 if arguments else 5)
    assert not empty_home.exists()
    assert "vmint (" not in said(result)


def test_a_mark_that_is_mistyped_is_an_error_of_usage(session: pytest.Pytester, empty_home: Path) -> None:
    session.makepyfile(
        """
        import pytest

        @pytest.mark.vmint(memry="128M")
        def test_it(vm):
            pass
        """
    )
    result = go(session, "--strict-markers")
    assert "image, memory, cpus, net by name, and not memry" in said(result)
    assert result.ret != 0 and not empty_home.exists()


# Fixtures


def test_each_fixture_gives_the_machine_that_it_promises(session: pytest.Pytester, home: Home) -> None:
    session.makepyfile(
        """
        import pytest
        import vmint

        DIRTY = "touch /tmp/dirt /etc/dirt; (sleep 999 &) ; hostname dirty"
        CLEAN = "test ! -e /tmp/dirt -a ! -e /etc/dirt && ! ps | grep -q '[s]leep 999' && test $(hostname) != dirty"

        @pytest.mark.parametrize("n", range(4))
        def test_vm(vm, n):
            vm.exec(CLEAN, check=True)
            vm.exec(DIRTY, check=True)

        def test_worker_first(worker_vm):
            worker_vm.exec(DIRTY, check=True)

        @pytest.mark.parametrize("n", range(3))
        def test_clean(clean_worker_vm, n, request):
            clean_worker_vm.exec(CLEAN, check=True)
            clean_worker_vm.exec(DIRTY, check=True)
            ids = request.config.__dict__.setdefault("ids", set())
            ids.add(clean_worker_vm.id)
            assert len(ids) == 1

        def test_worker_second(worker_vm, vm):
            assert not worker_vm.exec(CLEAN).ok
            vm.exec(CLEAN, check=True)
            assert vm.id != worker_vm.id

        def test_fresh(fresh_vm):
            one, two = fresh_vm(), fresh_vm(memory="192M", cold=True)
            memory = "awk '/MemTotal/ { print int($2 / 1024) }' /proc/meminfo"
            assert int(one.exec(memory).text) < 128 < int(two.exec(memory).text) < 192
            one.write("/tmp/x", "x")
            assert one.info()["ephemeral"] is False
            one.stop()
            assert one.info()["state"] == "stopped"
            one.start()
            one.exec("true", check=True)

        def test_forgets_to_remove(fresh_vm):
            for _ in range(2):
                fresh_vm()
            raise RuntimeError("on purpose")
        """
    )
    result = go(session, "-v")
    result.assert_outcomes(passed=10, failed=1)
    assert "left over: 0" in said(result)
    assert_empty(home)


def test_marks_options_and_ini_say_what_machines_are(session: pytest.Pytester, home: Home) -> None:
    session.makepyfile(
        """
        import pytest

        def mib(vm):
            return int(vm.exec("awk '/MemTotal/ { print int($2 / 1024) }' /proc/meminfo").text)

        def test_ini(vm):
            assert mib(vm) < 128

        @pytest.mark.vmint(memory="192M")
        class TestLarger:
            def test_of_its_class(self, vm):
                assert 128 < mib(vm) < 192
                assert not vm.exec("ls /sys/class/net | grep -v lo").ok

            @pytest.mark.vmint(net="nat")
            def test_and_its_own(self, vm):
                assert 128 < mib(vm) < 192
                vm.exec("ls /sys/class/net | grep -v lo", check=True)

            @pytest.mark.vmint(net="allow:example.com")
            def test_and_a_list(self, vm):
                vm.exec("ls /sys/class/net | grep -v lo", check=True)
                assert not vm.exec("nslookup evil.example").ok
        """
    )
    go(session).assert_outcomes(passed=4)
    wrong = go(session, "--vmint-net", "allow:*.com", "-k", "test_ini")
    assert wrong.ret == pytest.ExitCode.USAGE_ERROR and "two labels" in said(wrong)
    go(session, "--vmint-memory", "192M", "-k", "test_ini").assert_outcomes(failed=1)
    unknown = go(session, "--vmint-image", "no-such-image", "-k", "test_ini")
    unknown.assert_outcomes(errors=1)
    assert "no-such-image" in said(unknown)


def test_a_pool_that_is_named_is_used_and_stays(session: pytest.Pytester, home: Home) -> None:
    pool = vmint.Pool.create("mine", memory="128M", min=1, max=2)
    ids = {machine["id"] for machine in vmint.Vmint().machines()}
    session.makepyfile(
        """
        import pytest

        def test_of_the_pool(vm):
            assert vm.record()["pool"] == "mine"
            assert vm.record()["label"].endswith("::test_of_the_pool")

        @pytest.mark.vmint(memory="192M")
        def test_of_another_size(vm):
            assert vm.record()["pool"] != "mine"
        """
    )
    result = go(session, "--vmint-pool", "mine")
    result.assert_outcomes(passed=2)
    assert "left over: 0" in said(result)
    assert [one["name"] for one in vmint.Vmint().pools()] == ["mine"]
    assert pool.status()["counts"]["leased"] == 0
    assert ids <= {machine["id"] for machine in vmint.Vmint().machines()}
    pool.remove()


# Reports


def test_the_report_of_a_failure_tells_of_machine_and_host(session: pytest.Pytester, home: Home) -> None:
    session.makepyfile(
        """
        def test_it(vm):
            vm.exec("echo said on the console >/dev/console", check=True)
            vm.exec("echo complaint >&2; exit 9", check=True)
        """
    )
    result = go(session)
    result.assert_outcomes(failed=1)
    for part in (
        r"vmint.CommandFailed: .*exit code 9",
        r"complaint",
        r"vmint: console of machine m\w+",
        r"said on the console",
        r"when the test began: [\d.]+ of [\d.]+ GiB available; memory pressure",
        r"when it failed: +[\d.]+ of [\d.]+ GiB available; memory pressure",
    ):
        assert re.search(part, said(result)), part
    assert kept(result) == []


def test_the_machine_of_a_failed_test_is_kept_as_it_was(session: pytest.Pytester, home: Home) -> None:
    session.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("fixture", ["vm", "clean_worker_vm", "fresh_vm"])
        def test_it(request, fixture):
            machine = request.getfixturevalue(fixture)
            machine = machine() if fixture == "fresh_vm" else machine
            machine.exec(f"echo evidence of {fixture} >/tmp/evidence; (sleep 999 &)", check=True)
            assert False

        def test_fine(vm, worker_vm, clean_worker_vm, fresh_vm):
            pass
        """.replace(
            "def test_it(request, fixture)", "def test_it(request, fixture, vm, clean_worker_vm, fresh_vm)"
        )
    )
    result = go(session, "--vmint-keep-failed", "-k", "test_it")
    result.assert_outcomes(failed=3)
    names = kept(result)
    found = []
    for name in names:
        with vmint.Machine(name) as machine:
            found.append(machine.exec("cat /tmp/evidence; ps | grep -c '[s]leep 999'").text)
            assert f"vmint shell {name}\n" in said(result)
    told = [text for text in found if text.startswith("evidence of")]
    assert sorted(told) == [f"evidence of {one}\n1\n" for one in ("clean_worker_vm", "fresh_vm", "vm")], found
    assert "left over: 0" in said(result)


def disk_image(home: Home, folder: Path) -> str:
    """An image with a disk: busybox, without an init."""
    (busybox,) = [path for path in home.root.glob("images/busybox/*/busybox") if path.is_file()]
    archive = folder / "root.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(busybox, "bin/busybox")
        for name in ("sh", "cat", "echo", "sync"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    run("image", "import", "disk", str(archive), "--size", "64M")
    return "disk"


def test_of_a_machine_that_died_the_disk_is_kept(session: pytest.Pytester, home: Home, tmp_path: Path) -> None:
    image = disk_image(home, tmp_path)
    session.makepyfile(
        """
        import contextlib

        def die(vm):
            vm.exec("echo evidence >/evidence; sync", check=True)
            vm.exec("echo c >/proc/sysrq-trigger")

        def test_it(vm):
            die(vm)

        def test_that_expects_it(vm):
            with contextlib.suppress(Exception):
                die(vm)
        """
    )
    result = go(session, "--vmint-keep-failed", "--vmint-image", image)
    result.assert_outcomes(failed=1, passed=1)
    (name,) = kept(result)
    assert f"It has died; its disk is kept. vmint start {name}    boots from it" in said(result)
    assert [one["name"] for one in home.json("ls", "--all")] == [name]
    run("start", name)
    assert run("exec", name, "--", "cat", "/evidence") == "evidence\n"
    run("rm", "--force", name)


def test_the_summary_counts_and_compares(session: pytest.Pytester, home: Home) -> None:
    session.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("n", range(6))
        def test_it(vm, n):
            vm.exec("sleep 0.3", check=True)
        """
    )
    text = said(go(session, "-n", "2", "--vmint-figures", "figures.json"))
    counts = re.search(r"machines (\d+), leases (\d+), resets (\d+), left over: 0", text)
    assert counts, text
    machines, leases, resets = map(int, counts.groups())
    assert leases == 6 and 2 <= machines <= 6 and 0 < resets <= 6, text
    seconds = re.search(r"6 tests with machines: ([\d.]+) s in the tests, ([\d.]+) s in vmint", text)
    assert seconds and 1.8 <= float(seconds[1]) < 20, text
    boots = re.search(r"a cold boot for each lease instead: ([\d.]+) s of boots, .*\(6 × ([\d.]+) s", text)
    assert boots and abs(float(boots[1]) - 6 * float(boots[2])) < 0.2, text
    (template,) = [
        one for one in home.json("template", "ls") if one["memory"] == 128 << 20 and one["net"] == "none"
    ]
    assert abs(template["boot_ms"] / 1e3 - float(boots[2])) < 0.01
    assert re.search(r"=== vmint \((tcg|kvm)\) ===", text)
    figures = json.loads((session.path / "figures.json").read_text())
    assert (figures["leases"], figures["workers"], figures["left_over"]) == (6, 2, [])
    assert 0 < figures["efficiency"] <= 1
    assert figures["cold_boots_ms"] == pytest.approx(6e3 * float(boots[2]), rel=0.01)


# Machines that are lost

LOSES_ITS_MACHINE = """
import os
import signal
import pytest

def first_time():
    try:
        open("seen", "x").close()
        return True
    except FileExistsError:
        return False

def lose(machine):
    os.kill(machine.info()["hypervisor"]["pid"], signal.SIGKILL)
    machine.exec("sleep 999")
"""


def test_a_test_that_has_lost_its_machine_is_run_again(session: pytest.Pytester, home: Home) -> None:
    session.makepyfile(
        LOSES_ITS_MACHINE
        + """
@pytest.mark.parametrize("fixture", ["vm", "clean_worker_vm", "worker_vm"])
def test_loses(request, fixture, vm, clean_worker_vm, worker_vm):
    machine = request.getfixturevalue(fixture)
    if first_time():
        lose(machine)
    machine.exec("true", check=True)
    if fixture != "worker_vm":
        os.remove("seen")

def test_after_it(worker_vm):
    worker_vm.exec("true", check=True)
"""
    )
    once = go(session, "-k", "clean_worker_vm")
    once.assert_outcomes(failed=1)
    os.remove("seen")
    result = go(session, "--vmint-rerun-lost", "1")
    result.assert_outcomes(passed=4)
    assert "run again because their machine was lost: 3" in said(result)
    assert "left over: 0" in said(result)


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_a_loss_that_repeats_itself_fails_the_test(
    session: pytest.Pytester, home: Home, arguments: tuple[str, ...]
) -> None:
    session.makepyfile(LOSES_ITS_MACHINE + "\ndef test_loses(vm):\n    lose(vm)\n")
    result = go(session, "--vmint-rerun-lost", "2", *arguments)
    result.assert_outcomes(failed=1)
    assert "run again because their machine was lost: 2" in said(result)


def test_a_failing_test_is_never_run_again(session: pytest.Pytester, home: Home) -> None:
    session.makepyfile(
        LOSES_ITS_MACHINE
        + """
import vmint

def count(name):
    with open(name, "a") as file:
        file.write("x")

def test_fails(vm):
    count("fails")
    vm.exec("false", check=True)

def test_fails_after_the_loss(vm):
    count("after")
    try:
        lose(vm)
    except vmint.VmintError:
        pass
    assert False

def test_its_own_command_ends_the_machine(vm):
    count("own")
    vm.exec("poweroff -f; reboot -f; sleep 999")
"""
    )
    result = go(session, "--vmint-rerun-lost", "3")
    result.assert_outcomes(failed=3)
    counts = [(session.path / name).read_text() for name in ("fails", "after", "own")]
    assert counts == ["x", "x", "x"], said(result)


# Pressure


@pytest.mark.parametrize("policy, outcome", [("skip", "skipped"), ("fail", "errors")])
def test_what_to_do_under_pressure(
    session: pytest.Pytester, home: Home, monkeypatch: pytest.MonkeyPatch, policy: str, outcome: str
) -> None:
    with open("/proc/meminfo", encoding="ascii") as file:
        total_mib = int(file.readline().split()[1]) // 1024
    # In thousandths: so much that one machine fits, and no second.
    factor = round(1000 * 400 / total_mib) / 1000
    if not 300 < factor * total_mib < 500:
        pytest.skip("on a host of this size, the factor cannot be set finely enough")
    session.makepyfile("def test_it(vm):\n    pass\n")
    with vmint.Machine.create(memory="320M", name="other", keep=True):
        monkeypatch.setenv("VMINT_ADMISSION_OVERCOMMIT", str(factor))
        result = go(session, "-rs", "--vmint-on-pressure", policy)
        monkeypatch.delenv("VMINT_ADMISSION_OVERCOMMIT")
    result.assert_outcomes(**{outcome: 1})
    assert "was not started: it would have to wait for" in said(result)


# Workers and processes that die


def in_background(session: pytest.Pytester, *arguments: str) -> subprocess.Popen[str]:
    """A session of pytest, with a process group of its own as from a terminal."""
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=session.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_workers_share_a_pool_that_was_made_once(session: pytest.Pytester, home: Home) -> None:
    session.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("n", range(8))
        def test_it(vm, n):
            with open("pools", "a") as file:
                file.write(vm.record()["pool"] + "\\n")
        """
    )
    result = go(session, "-n", "3")
    result.assert_outcomes(passed=8)
    assert len(set((session.path / "pools").read_text().split())) == 1
    assert "left over: 0" in said(result)


def test_a_worker_that_is_killed_leaves_nothing_after_a_second(session: pytest.Pytester, home: Home) -> None:
    session.makepyfile(
        """
        import os
        import time

        def test_doomed(vm):
            with open("doomed.new", "w") as file:
                file.write(f"{os.getpid()} {vm.lease_id}")
            os.rename("doomed.new", "doomed")
            vm.exec("sleep 999")

        def test_other(vm):
            vm.exec("true", check=True)
        """
    )
    pytest_process = in_background(session, "-n", "2")
    doomed = session.path / "doomed"
    wait_until(doomed.exists, "the test runs", 60)
    pid, lease = doomed.read_text().split()
    os.kill(int(pid), signal.SIGKILL)
    wait_until(lambda: lease not in str(home.json("lease", "ls")), "its lease is gone", 1)
    output, _ = pytest_process.communicate(timeout=120)
    assert "1 failed, 1 passed" in output and "crashed" in output, output
    assert "left over: 0" in output and "workers that died" in output, output
    assert_empty(home)


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_a_session_that_is_killed_leaves_nothing(
    session: pytest.Pytester, home: Home, arguments: tuple[str, ...]
) -> None:
    session.makepyfile(
        """
        def test_it(vm, fresh_vm):
            fresh_vm()
            open("running", "w").close()
            vm.exec("sleep 999")
        """
    )
    process = in_background(session, *arguments)
    wait_until((session.path / "running").exists, "the test runs", 60)
    assert home.left() != []
    process.kill()
    wait_until(lambda: home.left() == [], "nothing is left of the session", 5)
    process.communicate(timeout=60)


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_ctrl_c_ends_a_session_soon_and_it_leaves_nothing(
    session: pytest.Pytester, home: Home, arguments: tuple[str, ...]
) -> None:
    session.makepyfile(
        """
        def test_it(vm):
            open("running", "w").close()
            vm.exec("sleep 999")
        """
    )
    process = in_background(session, *arguments)
    wait_until((session.path / "running").exists, "the test runs", 60)
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2 and "KeyboardInterrupt" in output, output
    assert time.monotonic() - began < 10
    assert_empty(home)


def test_sessions_at_the_same_time_do_not_see_each_other(session: pytest.Pytester, home: Home) -> None:
    session.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("n", range(4))
        def test_it(vm, n):
            vm.exec("test ! -e /tmp/dirt && touch /tmp/dirt", check=True)
        """
    )
    both = [in_background(session, "-n", "1") for _ in range(2)]
    for process in both:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0 and "left over: 0" in output, output


def test_what_a_session_and_its_keeper_left_is_removed_by_the_next(
    session: pytest.Pytester, home: Home
) -> None:
    from vmint._pytest import owner

    # A process that was, and whose number nobody has now.
    child = subprocess.Popen(
        [sys.executable, "-c", "from vmint._pytest import owner; print(owner.new_run())"],
        stdout=subprocess.PIPE,
        text=True,
    )
    dead = child.communicate()[0].strip()
    alive = owner.new_run()
    assert owner.is_dead(dead) and not owner.is_dead(alive)
    for name in (f"{dead}-abcdef", f"{alive}-abcdef", "pytest-of-mine"):
        run("pool", "create", name, "--memory", "128M", "--min", "1", "--max", "1", "--standby", "0")
    run("create", f"{dead}-gw1-0", "--memory", "128M")
    session.makepyfile("def test_it(vm):\n    pass\n")
    go(session).assert_outcomes(passed=1)
    assert f"{dead}-gw1-0" not in [one["name"] for one in home.json("ls", "--all")]
    assert {one["name"] for one in home.json("pool", "ls")} == {f"{alive}-abcdef", "pytest-of-mine"}
    run("pool", "rm", "--force", f"{alive}-abcdef", "pytest-of-mine")
