"""What a fleet's run comes to: one dictionary, as text for people."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from .books import CallFault

#: Above this part of a core the fleet's own process is what is measured.
BUSY = 0.9
_PERCENTILES = (50.0, 95.0, 99.0, 99.9)
_STORMS = ("login", "reconnect", "again")
#: What a phase is called to people.
_PHASES = {"calm": "calm", "reconnect": "reconnect storm", "again": "power back", "login": "login"}
#: What was measured of the few devices that were alone first.
_FEW = {"rang": "rings", "received": "the caller knows", "ping": "ping-pong"}


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """``p50`` to ``p99.9`` in milliseconds, by nearest rank, and how many there were (``n``)."""
    ordered = sorted(seconds)
    shown: dict[str, float] = {"n": len(ordered)}
    for percent in _PERCENTILES if ordered else ():
        rank = max(1, math.ceil(len(ordered) * percent / 100))
        shown[f"p{percent:g}"] = round(ordered[rank - 1] * 1000, 3)
    return shown


def build(
    asked: Mapping[str, Any],
    phases: Mapping[str, Mapping[str, Any]],
    results: Sequence[Mapping[str, Any]],
    machine: Mapping[str, Any],
    peak: int,
) -> dict[str, Any]:
    """The report of all processes together."""
    rang = _merged(results, "rang")
    few = [result for result in results if result["apart"]]
    apart = _merged(few, "rang")
    received, ping = _merged(results, "received"), _merged(results, "ping")
    faults: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for result in results:
        faults.update(result["faults"])
        calls.update(result["calls"])
    ring, receipt = percentiles(rang.get("calm", [])), percentiles(received.get("calm", []))
    floor = percentiles(ping.get("calm", []))
    beside = percentiles(_merged(few, "received").get("calm", [])) if few else receipt
    calm = phases.get("calm", {})
    report: dict[str, Any] = {
        "asked": dict(asked),
        "machine": dict(machine),
        "logged_in": {
            name: {"seconds": round(phase["seconds"], 3), "missing": phase["missing"],
                   "errors": dict(phase["errors"])}
            for name, phase in (("first", phases.get("login", {})),
                                ("reconnect", phases.get("cut", {})),
                                ("again", phases.get("again", {})))
            if "seconds" in phase
        },
        "ring_ms": ring,
        "receipt_ms": receipt,
        "ping_pong_ms": floor,
        "ratio": round(beside["p50"] / floor["p50"], 2) if beside["n"] and floor["n"] else None,
        "few": _few(few) if few else None,
        "ring_meanwhile_ms": {
            name: percentiles((apart or rang)[name])
            for name in _STORMS
            if name in (apart or rang)
        },
        "ping_pong_meanwhile_ms": {
            name: percentiles(ping[name]) for name in _STORMS if name in ping
        },
        "late_ms": {
            "apart" if apart_ones else "others": {
                phase: round(max(each["late"].get(phase, 0.0) for each in those) * 1000, 1)
                for phase in _STORMS
            }
            for apart_ones in (True, False)
            if (those := [each for each in results if each["apart"] is apart_ones])
        },
        "calls": dict(calls),
        "calls_per_second": round(calm["calls"] / calm["seconds"], 1) if calm.get("calls") else 0.0,
        "faults": {str(fault): faults[fault] for fault in CallFault},
        "findings": [text for result in results for text in result["findings"]][:20],
        "left_behind": sum(result["left"] for result in results),
        "problems": [text for result in results for text in result["problems"]][:20],
        "outages": [
            {"seconds": round(until - since, 3) if until else None, "devices": int(most)}
            for result in results for since, until, most in result["outages"]
        ],
        "interrupted": any(phase["interrupted"] for phase in phases.values()),
        "phases": {name: dict(phase) for name, phase in phases.items()},
    }  # fmt: skip
    if "broker_cpu" in calm and not calm["broker_ended"]:
        devices = asked["devices"]
        report["broker"] = {
            "cpu_calm": round(calm["broker_cpu"] / calm["whole"], 3),
            "cpu_ms_per_call": round(calm["broker_cpu"] * 1000 / calm["calls"], 3)
            if calm.get("calls") else None,
            "memory_mb": round(peak / 1e6, 1),
            "kb_per_device": round(
                (calm["broker_memory"] - calm["memory_empty"]) / 1024 / devices, 2),
        }  # fmt: skip
    report["sound"] = not (
        sum(faults.values()) or report["left_behind"] or report["problems"]
        or any(each["missing"] for each in report["logged_in"].values())
    )  # fmt: skip
    return report


def _few(few: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The same devices alone at the broker and among all, in ms; ``grown``: p50 beside p50."""
    found: dict[str, Any] = {"devices": sum(result["devices"] for result in few)}
    grown = {}
    for key in ("rang", "received", "ping"):
        times = _merged(few, key)
        alone, among = (percentiles(times.get(phase, [])) for phase in ("alone", "calm"))
        found[key] = {"alone": alone, "among": among}
        if alone["n"] and among["n"]:
            grown[key] = round(among["p50"] / alone["p50"], 2)
    return {**found, "grown": grown}


def _merged(results: Sequence[Mapping[str, Any]], key: str) -> dict[str, list[float]]:
    merged: dict[str, list[float]] = {}
    for result in results:
        for phase, times in result[key].items():
            merged.setdefault(phase, []).extend(times)
    return merged


def text(report: Mapping[str, Any]) -> list[str]:
    """The report for people, line by line."""
    asked, said = report["asked"], []
    said.append(
        f"{asked['devices']:,} devices, {asked['panels']:,} of them panels, in"
        f" {asked['processes']} process(es), at {', '.join(asked['brokers'])}"
    )
    for name, what in (("first", "all logged in"), ("reconnect", "all back, links cut at once"),
                       ("again", "all back, power cut of the site")):  # fmt: skip
        if (each := report["logged_in"].get(name)) is not None:
            missing = f"; {each['missing']:,} NEVER GOT IN" if each["missing"] else ""
            said.append(f"{what:<34} {each['seconds']:9.2f} s{missing}")
            said += [f"  {count:,} of them: {error}" for error, count in each["errors"].items()]
    said.append(f"{'ms':<34} {'p50':>9} {'p95':>9} {'p99':>9} {'p99.9':>9} {'of':>8}")
    rows = [
        ("press → the panel rings", report["ring_ms"]),
        ("press → the caller knows", report["receipt_ms"]),
        ("bare ping-pong", report["ping_pong_ms"]),
    ]
    few = report["few"]
    for key, what in _FEW.items() if few is not None else ():
        rows += [(f"  {few['devices']} {where}: {what}", few[key][where])
                 for where in ("alone", "among")]  # fmt: skip
    for name, each in report["ring_meanwhile_ms"].items():
        rows.append((f"  ring meanwhile: {_PHASES[name]}", each))
        if name in report["ping_pong_meanwhile_ms"]:
            rows.append(("    ping-pong then", report["ping_pong_meanwhile_ms"][name]))
    for what, each in rows:
        figures = " ".join(f"{each[f'p{p:g}']:9.2f}" for p in _PERCENTILES if f"p{p:g}" in each)
        said.append(f"{what:<34} {figures or 'none'} {each['n']:>8,}")
    if report["ring_meanwhile_ms"]:
        late = report["late_ms"].get("apart") or report["late_ms"]["others"]
        figures = ", ".join(
            f"{_PHASES[name]} {late[name]:.0f}" for name in report["ring_meanwhile_ms"]
        )
        said.append(f"  of that at most the fleet's own, ms: {figures}")
    if report["ratio"] is not None:
        said.append(f"{'knows beside ping-pong, p50':<34} {report['ratio']:9.2f} x")
    if few is not None and few["grown"]:
        grown = ", ".join(f"{_FEW[key]} {ratio:.2f}" for key, ratio in few["grown"].items())
        said.append(f"{few['devices']} devices among all beside alone, p50, times: {grown}")
    ends = ", ".join(f"{count:,} {end}" for end, count in report["calls"].items())
    said.append(f"calls: {ends}; {report['calls_per_second']:g}/s when calm")
    said.append(", ".join(f"{count:,} {fault}" for fault, count in report["faults"].items()))
    said += [f"  {finding}" for finding in report["findings"]]
    for each in report["outages"]:
        took = "not over" if each["seconds"] is None else f"{each['seconds']:.2f} s"
        said.append(f"links were down: {each['devices']:,} devices, {took}")
    if (broker := report.get("broker")) is not None:
        each_call = broker["cpu_ms_per_call"]
        said.append(
            f"broker: {broker['cpu_calm']:.0%} of a core when calm"
            + (f", {each_call:.2f} ms CPU a call" if each_call is not None else "")
            + f"; {broker['memory_mb']:,.0f} MB at most, {broker['kb_per_device']:.1f} KB a device"
        )
    if report["left_behind"]:
        said.append(f"{report['left_behind']} cells were left behind; they are cleared")
    said += [f"  {problem}" for problem in report["problems"]]
    busiest = max((phase.get("fleet_cpu", 0.0) for phase in report["phases"].values()), default=0)
    if busiest > BUSY:
        said.append(
            f"a process of the fleet took {busiest:.0%} of a core: it, and not the broker, may be"
            " what was measured; --processes spreads it"
        )
    if report["interrupted"]:
        said.append("interrupted: this is what there is")
    return said
