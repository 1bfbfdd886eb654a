"""The measurements as a document: tables of medians, ratios and the bars that they are held against."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import engines
import measure
import scale

_MIB = 1 << 20


class Section(NamedTuple):
    title: str
    lines: tuple[str, ...]


def starts(results: Mapping[str, measure.Result], *, versions: Sequence[engines.Engine]) -> Section:
    rows = []
    for name, result in results.items():
        own = results["bayplan, no network" if name.endswith(", no network") else "bayplan"]
        rows.append((name, f"{result.median * 1e3:.0f} ms", f"{min(result.seconds) * 1e3:.0f} ms", f"{result.median / own.median:.2f}"))
    bars = [verdict(results[name].median / results["bayplan"].median, 5, least=True, what=f"{name} takes, of bayplan's time,")
            for name in ("docker", "podman") if name in results]  # fmt: skip
    if {"runc, bundle ready", "bayplan-oci, bundle ready"} <= results.keys():
        ours, theirs = (results[f"{name}, bundle ready"].median for name in ("bayplan-oci", "runc"))
        bars.append(verdict(ours / theirs, 2, least=False, what="bayplan-oci takes, of runc's time,"))
    told = [f"- {each.name}: {each.version}" for each in versions]
    return Section(
        "Starting a container",
        (
            "`run --rm IMAGE /bin/true`, from the command's start to its end; on the default bridge network unless it says otherwise.",
            "The image is busybox-static. The OCI runtimes get a bundle that is ready, with the filter that",
            "Podman gives, and set no network up.",
            "",
            *table(("", "median", "fastest", "of bayplan's"), rows),
            "",
            *bars,
            "",
            *told,
        ),
    )


def pulls(results: Mapping[str, measure.Result], image: str) -> Section:
    own = results["bayplan"]
    rows = [
        (name, f"{each.median:.1f} s", f"{min(each.seconds):.1f} s", f"{each.median / own.median:.2f}", f"{each.peak / _MIB:.0f} MiB")
        for name, each in results.items()
    ]
    bars = [verdict(own.median / each.median, 1, least=False, what=f"bayplan takes, of {name}'s time,") for name, each in results.items()
            if name != "bayplan"]  # fmt: skip
    return Section(
        "Pulling a large image",
        (
            f"From a registry on the same machine: {image.partition(': ')[2]}. Memory is the sum of the proportional shares of all its",
            "processes at the worst moment, a daemon's own included.",
            "",
            *table(("", "median", "fastest", "of bayplan's", "peak memory"), rows),
            "",
            *bars,
            verdict(own.peak / _MIB, 200, least=False, what="bayplan's peak in MiB is"),
        ),
    )


def memory(shares: Sequence[int], others: Sequence[str]) -> Section:
    worst, usual = max(shares) / _MIB, statistics.median(shares) / _MIB
    return Section(
        "What stays in memory",
        (
            f"{len(shares)} containers on one network, each of which has looked another one up by name: {len(shares)} monitors with",
            f"{usual:.2f} MiB each (median of the proportional set size; the largest {worst:.2f}), and {len(others)} other processes.",
            "",
            verdict(worst, 4, least=False, what="the largest monitor has, in MiB,"),
            verdict(len(others), 0, least=False, what="other processes that stay:"),
            *(f"- {other}" for other in others),
        ),
    )


def many(found: scale.Scale, shares: Sequence[int]) -> Section:
    listing = statistics.median(found.listings) * 1e3
    each = sum(shares) / len(shares) / _MIB
    return Section(
        "Many containers",
        (
            f"{len(found.starts)} containers on one network, started one after the other: the median of the first {scale.GROUP}",
            f"starts is {found.first * 1e3:.0f} ms, of the last {scale.GROUP} {found.last * 1e3:.0f} ms.",
            f"`ps` of all takes {listing:.0f} ms.",
            "",
            verdict(found.last / found.first, 1.2, least=False, what="the last start takes, of the first's time,"),
            verdict(listing, 150, least=False, what="`ps` takes, in ms,"),
            verdict(each, 4, least=False, what="all that stays in memory is, in MiB for each container,"),
        ),
    )


def converges(found: Sequence[Mapping[str, Any]]) -> Section:
    rows, bars = [], []
    for row in found:
        ways = "pipelining" if row["pipelining"] else "no pipelining"
        rows.append((f"{row['what']}, {ways}", f"{row['ping']:.2f} s", f"{row['converge']:.2f} s", f"{row['ratio']:.2f}"))
        bar = 1.3 if "tasks" in row["what"] else 1.25 if row["pipelining"] else 1.4
        bars.append(verdict(row["ratio"], bar, least=False, what=f"{row['what']}, {ways}:"))
    return Section(
        "Converging with nothing to do",
        (
            "A playbook over SSH against a host on which everything is as declared, beside one that only pings it.",
            "",
            *table(("", "ping", "converge", "ratio"), rows),
            "",
            *bars,
        ),
    )


def verdict(value: float, bar: float, *, least: bool, what: str) -> str:
    holds = value >= bar if least else value <= bar
    return f"- {'met' if holds else '**not met**'}: {what} {value:.2f}; {'at least' if least else 'at most'} {bar:g} is wanted"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] + ["---:"] * (len(head) - 1), *rows)]


def write(path: Path, sections: Sequence[Section], *, rounds: int) -> None:
    """Write the document: sections that were not measured this time stay as they were."""
    kept = _sections(path.read_text()) if path.exists() else {}
    kept |= {each.title: "\n".join((_when(rounds), "", *each.lines)) for each in sections}
    head = (
        "# Benchmarks",
        "",
        "Written by `make bench`: what is compared runs in turns (A B C A B C), and the medians are shown.",
    )
    text = "\n".join(head) + "\n" + "".join(f"\n## {title}\n\n{body.strip()}\n" for title, body in kept.items())
    path.write_text(text)


def _when(rounds: int) -> str:
    load = os.getloadavg()[0]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    machine = f"Linux {platform.release()} on {platform.machine()}, {os.cpu_count()} processors, {memory} GiB"
    return f"*{time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC, {machine}, {rounds} rounds, load {load:.1f} at the end.*"


def _sections(text: str) -> dict[str, str]:
    parts = text.split("\n## ")[1:]
    return {part.partition("\n")[0]: part.partition("\n")[2].strip() for part in parts}
