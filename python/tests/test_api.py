"""The Python API, on real machines."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import vmint
import vmint.aio

from conftest import Home, wait_until

MEMORY = "128M"


@pytest.fixture
def machine(home: Home) -> Iterator[vmint.Machine]:
    with vmint.Machine.create(memory=MEMORY) as machine:
        yield machine


@pytest.fixture
def pool(home: Home) -> Iterator[vmint.Pool]:
    pool = vmint.Pool.create("py", memory=MEMORY, min=2, max=2)
    yield pool
    pool.remove(force=True)


def sleepers(machine: Any) -> int:
    return int(machine.exec("ps | grep -c '[s]leep 999'").text)


def test_a_command_gives_its_code_and_both_outputs(machine: vmint.Machine) -> None:
    result = machine.exec("echo out; echo err >&2; exit 3")
    assert (result.exit_code, result.stdout, result.stderr, result.ok) == (3, b"out\n", b"err\n", False)
    assert machine.exec(["echo", "a b", "$HOME"]).text == "a b $HOME\n"
    assert machine.exec("echo", Path("/x"), env={"A": "1"}).text == "/x\n"
    environment = machine.exec("echo $A; pwd", env={"A": "ä"}, cwd="/tmp").text
    assert environment == "ä\n/tmp\n"
    killed = machine.exec("kill -9 $$")
    assert (killed.exit_code, killed.signal) == (137, 9)


def test_a_failed_command_is_told_from_a_failure_of_vmint(machine: vmint.Machine) -> None:
    with pytest.raises(vmint.CommandFailed) as failed:
        machine.exec("echo why >&2; exit 7", check=True)
    assert failed.value.exit_code == 7 and "why" in str(failed.value)
    assert not isinstance(failed.value, vmint.VmintError)
    with pytest.raises(vmint.CommandTimedOut):
        machine.exec("sleep 999", timeout=0.2)
    assert sleepers(machine) == 0
    with pytest.raises(vmint.CommandNotStarted) as absent:
        machine.exec(["no-such-program"])
    assert absent.value.exit_code == 127
    with pytest.raises(vmint.NotFound) as unknown:
        vmint.Machine("no-such-machine")
    assert unknown.value.kind == "not_found"


def test_input_larger_than_any_window_arrives_whole(machine: vmint.Machine) -> None:
    content = os.urandom(1 << 20) * 5
    assert machine.exec(["cat"], input=content).stdout == content
    assert machine.exec(["wc", "-c"], input="").text.strip() == "0"


def test_files_go_in_and_out(machine: vmint.Machine, tmp_path: Path) -> None:
    machine.write("/srv/deep/file.txt", "content")
    assert machine.read("/srv/deep/file.txt") == b"content"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_text("a")
    machine.copy_in(tmp_path / "folder", "/srv/")
    machine.copy_out("/srv/folder/a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "a"
    (tmp_path / "into").mkdir()
    machine.copy_out("/srv/folder", f"{tmp_path}/into/")
    assert (tmp_path / "into" / "folder" / "a").read_text() == "a"


def test_snapshot_restore_fork_and_reset(machine: vmint.Machine, home: Home) -> None:
    machine.exec("echo 1 >/tmp/n", check=True)
    machine.snapshot("one")
    machine.exec("echo 2 >/tmp/n", check=True)
    with vmint.Machine(machine.fork("branch")["name"]) as branch:
        assert branch.read("/tmp/n") == b"2\n"
    with vmint.Machine.create(snapshot="one") as other:
        assert other.read("/tmp/n") == b"1\n"
    machine.reset()
    assert not machine.exec("test -e /tmp/n").ok
    machine.restore("one")
    assert machine.read("/tmp/n") == b"1\n"


def test_a_machine_that_dies_is_lost_and_not_a_failed_command(machine: vmint.Machine) -> None:
    pid = machine.info()["hypervisor"]["pid"]
    threading.Timer(0.3, os.kill, (pid, signal.SIGKILL)).start()
    with pytest.raises(vmint.VmLost) as lost:
        machine.exec("sleep 999")
    assert lost.value.kind == "machine_lost"


def test_a_lease_is_for_a_fresh_machine_and_ends_when_it_is_released(pool: vmint.Pool) -> None:
    lease = pool.acquire(label="mine")
    assert lease.record()["label"] == "mine"
    lease.exec("touch /tmp/dirt", check=True)
    lease.release()
    for use in (lambda: lease.exec("true"), lease.release, lambda: lease.read("/x"), lease.reset):
        with pytest.raises(vmint.LeaseLost, match="it was released"):
            use()
    for _ in range(4):
        with pool.acquire() as other:
            assert not other.exec("test -e /tmp/dirt").ok


def test_a_lease_is_reset_in_place(pool: vmint.Pool) -> None:
    with pool.acquire() as lease:
        before = lease.generation
        lease.exec("touch /tmp/dirt", check=True)
        lease.reset()
        assert lease.generation == before + 1
        assert not lease.exec("test -e /tmp/dirt").ok


def test_a_lease_that_is_forgotten_is_given_back(pool: vmint.Pool) -> None:
    lease = pool.acquire()
    assert pool.status()["counts"]["leased"] == 1
    del lease
    wait_until(lambda: pool.status()["counts"]["leased"] == 0, "the lease ended", 2)


def test_a_pool_says_why_it_lends_nothing(pool: vmint.Pool) -> None:
    held = [pool.acquire() for _ in range(2)]
    with pytest.raises(vmint.Refused):
        pool.acquire(wait=False)
    began = time.monotonic()
    with pytest.raises(vmint.TimedOut, match="2 lent"):
        pool.acquire(timeout=0.3)
    assert 0.25 < time.monotonic() - began < 2
    pool.drain()
    with pytest.raises(vmint.PoolClosed):
        pool.acquire()
    for lease in held:
        lease.release()
    with pytest.raises(vmint.NotFound):
        vmint.Pool("no-such-pool")
    with pytest.raises(vmint.VmintError) as exists:
        vmint.Pool.create("py", memory=MEMORY)
    assert exists.value.kind == "already_exists"


def test_a_pool_that_is_declared_is_made_when_it_is_needed(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = '[pools.declared]\nimage = "tiny"\nmemory = "128M"\nmin = 1\nmax = 3\nstandby = 0\n'
    (tmp_path / "vmint.toml").write_text(declared)
    monkeypatch.chdir(tmp_path)
    here = vmint.Vmint()
    pool = vmint.Pool("declared", vmint=here)
    assert vmint.Pool("declared", vmint=here).status()["spec"]["max"] == 3
    with pool.acquire() as lease:
        lease.exec("true", check=True)
    pool.remove()


def test_the_holder_of_a_lost_machine_is_told_why(pool: vmint.Pool) -> None:
    with pool.acquire() as lease:
        os.kill(lease.info()["hypervisor"]["pid"], signal.SIGKILL)
        # Which of the two depends on whether the ledger knows yet.
        with pytest.raises((vmint.VmLost, vmint.LeaseLost), match="was lost"):
            lease.exec("sleep 999")
        wait_until(lambda: lease.record()["ended"], "the lease has ended", 1)
        assert lease.record()["ended"]["how"] == "machine_lost"
        with pytest.raises(vmint.LeaseLost, match="its machine was lost"):
            lease.exec("true")


def test_a_lease_that_is_over_its_time_is_lost(pool: vmint.Pool) -> None:
    lease = pool.acquire(ttl=1.0)
    with pytest.raises(vmint.LeaseLost, match="its time was up"):
        lease.exec("sleep 999")


def test_a_forked_child_has_no_part_in_its_parents_handles(pool: vmint.Pool) -> None:
    lease = pool.acquire()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        said = "nothing"
        try:
            lease.exec("true")
        except vmint.VmintError as e:
            said = f"refused: {e}"
        try:
            with vmint.Pool("py").acquire() as own:
                said += "; own: " + own.exec("echo works", check=True).text
        finally:
            del lease
            os.write(write, said.encode())
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    said = os.fdopen(read).read()
    assert "refused: this handle belongs to process" in said and "own: works" in said, said
    assert lease.exec("echo mine", check=True).text == "mine\n"
    lease.release()


def test_a_strangers_lease_can_only_be_ended_by_force(pool: vmint.Pool) -> None:
    code = "import sys, vmint; held = vmint.Pool('py').acquire(); print(held.lease_id, flush=True); sys.stdin.read()"
    stranger = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert stranger.stdin and stranger.stdout
    lease = stranger.stdout.readline().strip()
    with pytest.raises(vmint.NotOwner):
        vmint.Vmint().release_lease(lease)
    assert [one["id"] for one in vmint.Vmint().leases()] == [lease]
    assert vmint.Vmint().release_lease(lease, force=True)["ended"]["how"] == "released"
    with pytest.raises(vmint.LeaseLost):
        vmint.Vmint().release_lease(lease)
    stranger.communicate("")


def in_child(name: str) -> str:
    with vmint.Pool(name).acquire() as lease:
        return lease.exec("echo spawned", check=True).text


def test_children_made_by_spawn_open_their_own(pool: vmint.Pool) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as children:
        assert children.map(in_child, ["py"] * 4) == ["spawned\n"] * 4


def test_the_machine_of_a_process_that_is_killed_is_reset_within_a_second(pool: vmint.Pool) -> None:
    child = os.fork()
    if child == 0:
        own = vmint.Pool("py").acquire(label="doomed")
        own.exec("touch /tmp/dirt; sleep 999")
        os._exit(0)
    wait_until(lambda: pool.status()["counts"]["leased"] == 1, "the child has a machine")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    wait_until(lambda: pool.status()["counts"]["leased"] == 0, "the lease has ended", 1)
    for _ in range(2):
        with pool.acquire() as lease:
            assert not lease.exec("test -e /tmp/dirt").ok and sleepers(lease) == 0


def interrupt_soon() -> None:
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()


def test_ctrl_c_interrupts_a_command_and_a_wait_in_line(pool: vmint.Pool) -> None:
    with pool.acquire() as lease, pool.acquire():
        interrupt_soon()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            lease.exec("sleep 999")
        assert time.monotonic() - began < 2
        wait_until(lambda: sleepers(lease) == 0, "the command was killed", 2)
        interrupt_soon()
        with pytest.raises(KeyboardInterrupt):
            pool.acquire()
        assert pool.status()["counts"]["waiting"] == 0


def test_more_tasks_than_machines_all_get_one(pool: vmint.Pool) -> None:
    async def one(number: int) -> str:
        async with await shared.acquire(label=str(number)) as lease:
            return (await lease.exec(f"echo {number}", check=True)).text.strip()

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*(one(number) for number in range(12)))

    shared = vmint.aio.Pool("py")
    assert asyncio.run(all_of_them()) == [str(number) for number in range(12)]


def test_what_is_cancelled_is_cancelled_in_vmint(pool: vmint.Pool) -> None:
    async def story() -> None:
        shared = vmint.aio.Pool("py")
        async with await shared.acquire() as lease, await shared.acquire():
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(lease.exec("sleep 999"), 0.3)
            assert (await lease.exec("ps | grep -c '[s]leep 999'")).text == "0\n"
            waiting = asyncio.ensure_future(shared.acquire())
            await asyncio.sleep(0.2)
            assert shared.status()["counts"]["waiting"] == 1
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await asyncio.sleep(0)
        for _ in range(100):
            if shared.status()["counts"]["waiting"] == 0 and shared.status()["counts"]["leased"] == 0:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(shared.status())

    asyncio.run(story())


def test_one_handle_can_be_waited_for_and_awaited(machine: vmint.Machine, pool: vmint.Pool) -> None:
    async def story(lease: vmint.Lease) -> list[str]:
        awaited = await asyncio.gather(machine.aio.exec("echo 1"), lease.aio.exec("echo 2"))
        await lease.aio.release()
        return [result.text for result in awaited]

    lease = pool.acquire()
    assert asyncio.run(story(lease)) == ["1\n", "2\n"]
    with pytest.raises(vmint.LeaseLost):
        lease.exec("true")


def test_exceptions_survive_being_sent_to_another_process() -> None:
    error = vmint.LeaseLost("gone", "lease_lost", "acquire anew")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.kind, again.hint, str(again)) == (
        type(error),
        error.kind,
        error.hint,
        str(error),
    )
    failed = vmint.CommandFailed("false", vmint.Result(1, b"", b""))
    assert pickle.loads(pickle.dumps(failed)).exit_code == 1


def test_nothing_is_opened_by_the_import(empty_home: Path) -> None:
    import vmint._native  # noqa: F401

    assert [vmint.Pool.__name__, vmint.aio.Pool.__name__] == ["Pool", "Pool"] and vmint.__version__
    assert not empty_home.exists()


# One class for one fact


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("after", [0.0, 0.003, 0.01, 0.05, 0.2, 1.0])
def test_a_machine_that_died_is_lost_however_long_ago_it_was(home: Home, keep: bool, after: float) -> None:
    machine = vmint.Machine.create(memory=MEMORY, keep=keep)
    os.kill(machine.info()["hypervisor"]["pid"], signal.SIGKILL)
    time.sleep(after)
    for use in (lambda: machine.exec("true"), lambda: machine.snapshot("none"), lambda: machine.write("/x", "")):
        with pytest.raises(vmint.VmLost, match=r"was lost: QEMU died \(signal: 9 \(SIGKILL\)\)"):
            use()
    machine.remove()


@pytest.mark.parametrize("after", [0.0, 0.003, 0.01, 0.05, 0.2, 1.0])
def test_a_lease_of_a_machine_that_died_is_lost_however_long_ago_it_was(pool: vmint.Pool, after: float) -> None:
    lease = pool.acquire()
    os.kill(lease.info()["hypervisor"]["pid"], signal.SIGKILL)
    time.sleep(after)
    for use in (lambda: lease.exec("true"), lambda: lease.snapshot("none"), lambda: lease.write("/x", "")):
        with pytest.raises(vmint.LeaseLost, match="its machine was lost"):
            use()


def test_an_end_that_was_asked_for_is_no_loss(home: Home) -> None:
    machine = vmint.Machine.create(memory=MEMORY, keep=True)
    machine.stop(force=True)
    with pytest.raises(vmint.VmintError) as stopped:
        machine.exec("true")
    assert stopped.value.kind == "wrong_state" and not isinstance(stopped.value, vmint.VmLost)
    machine.remove()
    with pytest.raises(vmint.NotFound):
        machine.exec("true")


# What a reader sees


def test_wrong_types_are_told_by_the_names_of_the_arguments(home: Home) -> None:
    for wrong, told in (
        ({"cpus": "2"}, "cpus must be an int, not str"),
        ({"memory": 1.5}, 'memory must be a size as a str such as "512M", or bytes as an int, not float'),
        ({"image": 3}, "image must be a str, not int"),
        ({"cpus": True}, "cpus must be an int, not bool"),
    ):
        with pytest.raises(TypeError, match=re.escape(told)):
            vmint.Machine.create(**wrong)
    with pytest.raises(TypeError, match="min must be an int, not str"):
        vmint.Pool.create("p", min="1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max must be 0 or more"):
        vmint.Pool.create("p", max=-1)


def test_names_are_those_that_users_import(pool: vmint.Pool) -> None:
    with pool.acquire() as lease:
        assert repr(lease).startswith("<vmint.Lease l") and repr(lease.aio).startswith("<vmint.aio.Lease l")
    assert repr(pool) == "<vmint.Pool py>"
    names = {cls.__module__ for cls in (vmint.Machine, vmint.Result, vmint.Vmint, vmint.VmLost)}
    assert names == {"vmint"} and isinstance(vmint.__version__, str)


def test_to_a_checker_of_types_the_package_is_shut(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import vmint\n"
        "reveal_type(vmint.__version__)\n"
        "vmint.nope\n"
        "vmint.Machine.create(cpus='2')\n"
        "vmint.Pool('p').acquire().exec('true').exit_code + ''\n"
        "vmint.aio.Pool('p')\n"
    )
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", str(program)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    told = checked.stdout
    assert 'program.py:2: note: Revealed type is "builtins.str"' in told or 'Revealed type is "str"' in told, told
    for line in (3, 4, 5):
        assert f"program.py:{line}: error" in told, told
    assert "program.py:6" not in told and "Found 3 errors" in told, told
