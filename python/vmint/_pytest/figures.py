"""What a session's machines have cost, in numbers that add up over workers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Optional


@dataclass
class Figures:
    """Counts, and seconds."""

    tests: int = 0
    """Tests that used a machine and came to their call."""
    in_tests: float = 0.0
    """In the calls of those tests, less what they spent on making machines."""
    acquiring: list[float] = field(default_factory=list)
    releasing: list[float] = field(default_factory=list)
    resetting: list[float] = field(default_factory=list)
    making: list[float] = field(default_factory=list)
    """Machines of ``fresh_vm``: until they are up, and until they are gone."""
    preparing: float = 0.0
    """Making pools, with their images and templates."""
    machines: list[str] = field(default_factory=list)
    """The ids of all machines that were used."""
    processes: list[int] = field(default_factory=list)
    """The workers."""
    pools: list[str] = field(default_factory=list)
    """The pools that were lent from."""
    boots: list[Optional[float]] = field(default_factory=list)
    """For each lease, the seconds in which its template was booted, if that is known."""
    reruns: int = 0
    kept: list[str] = field(default_factory=list)
    """The names of machines that were kept."""
    accelerators: list[str] = field(default_factory=list)
    first_event: Optional[int] = None
    began: Optional[float] = None
    ended: Optional[float] = None
    """When the first test with a machine began, and the last one ended; seconds since 1970."""

    def data(self) -> dict[str, Any]:
        """As xdist carries it from a worker."""
        return asdict(self)

    def add(self, other: dict[str, Any]) -> None:
        """Adds those of a worker."""
        theirs = Figures(**other)
        for name, value in vars(self).items():
            if isinstance(value, (int, float, list)) and name not in ("first_event", "began", "ended"):
                setattr(self, name, value + getattr(theirs, name))
        self.first_event = _least(self.first_event, theirs.first_event)
        self.began = _least(self.began, theirs.began)
        latest = [at for at in (self.ended, theirs.ended) if at is not None]
        self.ended = max(latest, default=None)

    def in_vmint(self) -> float:
        """Seconds that tests waited for vmint."""
        return sum(map(sum, (self.acquiring, self.releasing, self.resetting, self.making)))

    def wall(self) -> Optional[float]:
        """Seconds from the first test with a machine to the end of the last."""
        return None if self.began is None or self.ended is None else self.ended - self.began

    def summary(self, workers: int, resets: int, left: list[str]) -> dict[str, Any]:
        """For programs."""
        wall, overhead = self.wall(), self.in_vmint()

        def median_ms(values: list[float]) -> Optional[float]:
            return 1e3 * median(values) if values else None

        known = [boot for boot in self.boots if boot is not None]
        return {
            "accelerators": sorted(set(self.accelerators)),
            "workers": workers,
            "tests": self.tests,
            "machines": len(set(self.machines)),
            "leases": len(self.acquiring),
            "resets": resets,
            "left_over": left,
            "in_tests_ms": 1e3 * self.in_tests,
            "in_vmint_ms": 1e3 * overhead,
            "overhead_ms": 1e3 * overhead / self.tests if self.tests else None,
            "wall_ms": None if wall is None else 1e3 * wall,
            "efficiency": self.in_tests / (wall * workers) if wall else None,
            "acquire_p50_ms": median_ms(self.acquiring),
            "release_p50_ms": median_ms(self.releasing),
            "reset_p50_ms": median_ms(self.resetting),
            "fresh_vm_p50_ms": median_ms(self.making),
            "cold_boots_ms": 1e3 * sum(known) if len(known) == len(self.boots) and known else None,
            "reruns": self.reruns,
            "kept": self.kept,
        }

    def lines(self, workers: int, resets: int, left: list[str]) -> list[str]:
        """For the terminal."""
        made = f"machines {len(set(self.machines))}, leases {len(self.acquiring)}, resets {resets}"
        lines = [f"{made}, left over: {len(left)}"]
        lines += [f"  left: {one}" for one in left]
        overhead = self.in_vmint()
        each = 1e3 * overhead / self.tests if self.tests else 0.0
        parts = [
            f"{name} {1e3 * median(values):.1f} ms"
            for name, values in (
                ("acquire", self.acquiring),
                ("release", self.releasing),
                ("reset", self.resetting),
                ("fresh_vm", self.making),
            )
            if values
        ]
        lines.append(
            f"{self.tests} tests with machines: {self.in_tests:.2f} s in the tests, {overhead:.2f} s in vmint: "
            f"{each:.1f} ms a test (medians: {', '.join(parts) or 'none'})"
        )
        if self.preparing >= 0.01:
            lines.append(f"making the session's pools and templates: {self.preparing:.2f} s")
        wall = self.wall()
        if wall:
            share = 100 * self.in_tests / (wall * workers)
            plural = "" if workers == 1 else "s"
            lines.append(f"{share:.0f} % of {wall:.2f} s × {workers} worker{plural} were in the tests")
        lines.append(self._cold())
        if self.reruns:
            lines.append(f"run again because their machine was lost: {self.reruns}")
        lines += [f"kept: vmint shell {name}" for name in self.kept]
        return lines

    def _cold(self) -> str:
        known = [boot for boot in self.boots if boot is not None]
        unknown = len(self.boots) - len(known)
        if not known:
            return "a cold boot for each lease instead: not known, for no template has a measured boot"
        boots = sum(known)
        each = f"{len(known)} × {boots / len(known):.2f} s, as measured when the template was made"
        rest = f"; not known for {unknown} more" if unknown else ""
        total = boots + self.in_tests
        return (
            f"a cold boot for each lease instead: {boots:.1f} s of boots, {total:.1f} s in all ({each}{rest})"
        )


def median(values: list[float]) -> float:
    return sorted(values)[(len(values) - 1) // 2]


def _least(a: Any, b: Any) -> Any:
    known = [value for value in (a, b) if value is not None]
    return min(known, default=None)
