"""Prints the results of scripts/bench as tables.

    table.py RESULTS [JSON]

RESULTS has one JSON object per line. Writes the figures of all runs and a description of the machine to the file JSON,
if given. Exits with 1 if a run failed.
"""

import json
import os
import platform
import statistics
import sys

# For each workload: the compared figure, its unit, and the unit of processor time per item with its scale.
RATES = {
    "connect": ("requests", "requests/s", "us a request", 1e6),
    "flood": ("frames", "frames/s", "ns a frame", 1e9),
    "heavy": ("payload", "GB/s", "ms a GB", 1e3),
    "compressed": ("payload", "GB/s", "ms a GB", 1e3),
}
TITLES = {
    "connect": "one request after another, for one empty frame each",
    "flood": "many small frames",
    "heavy": "large frames",
    "compressed": "large frames of text, compressed on the wire; chanserv only",
}
OURS = "chanserv"


def number(value):
    """Formats a number with at least three significant digits and with thousands separators."""
    decimals = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:,.{decimals}f}"


class Measured:
    """The results of one peer for one workload, of all runs."""

    def __init__(self):
        self.results, self.failures = [], 0

    def values(self, figure):
        return [value for result in self.results for value in result["figures"][figure]["values"]]

    def median(self, figure):
        return statistics.median(self.values(figure))

    def processor_time(self, side, rate):
        """Returns the processor time per item of `rate`, in seconds (median of the runs)."""
        return statistics.median(
            spent / (each * seconds)
            for spent, each, seconds in zip(
                self.values(f"{side}_processor"), self.values(rate), self.values("seconds")))

    @property
    def dropped(self):
        return sum(result.get("dropped", 0) for result in self.results)


def rows(workload, peers):
    """Yields the header and the lines of a table."""
    rate, unit, share, scale = RATES[workload]
    latencies = ["p50", "p99", "p99.9", "max"] if workload == "connect" else []
    head = ["", unit, "min - max", f"{OURS} is"]
    yield head + [f"{name} ms" for name in latencies] + [f"CPU {share}, client+host", "MiB"]
    ours = peers[OURS].median(rate) if OURS in peers and peers[OURS].results else None
    for peer, measured in peers.items():
        if not measured.results:
            yield [peer, "failed"]
            continue
        values, median = measured.values(rate), measured.median(rate)
        ratio = "" if ours is None or peer == OURS else f"{ours / median:.2f} x"
        yield (
            [peer + ("*" if measured.dropped or measured.failures else "")]
            + [number(median), f"{number(min(values))} - {number(max(values))}", ratio]
            + [number(measured.median(f"latency_{name}") / 1000) for name in latencies]
            + [" + ".join(number(measured.processor_time(side, rate) * scale) for side in ("client", "host"))]
            + [f"{measured.median('client_peak_memory'):.0f} + {measured.median('host_peak_memory'):.0f}"]
        )


def print_table(lines):
    lines = list(lines)
    width = [max(len(line[column]) for line in lines if column < len(line)) for column in range(len(lines[0]))]
    for line in lines:
        cells = [line[0].ljust(width[0])] + [cell.rjust(width[column]) for column, cell in enumerate(line)][1:]
        print("  ".join(cells).rstrip())


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main(results, file=None):
    with open(results, encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    versions = {record["peer"]: record["version"] for record in records if "version" in record}
    left_out = {record["peer"]: record["left_out"] for record in records if "left_out" in record}
    workloads = {}
    for record in records:
        if "workload" not in record:
            continue
        measured = workloads.setdefault(record["workload"], {}).setdefault(record["peer"], Measured())
        if "failed" in record:
            measured.failures += 1
        else:
            measured.results.append(record["result"])

    machine = {
        "processor": processor(), "processors": os.cpu_count(), "kernel": platform.release(), "load": os.getloadavg(),
    }
    print(f"{machine['processors']} x {machine['processor']}, Linux {machine['kernel']}, "
          f"load {' '.join(f'{load:.1f}' for load in machine['load'])} at the end")
    for workload, peers in workloads.items():
        runs = max(len(measured.results) + measured.failures for measured in peers.values())
        print(f"\n{workload}: {TITLES[workload]}; " + (f"medians of {runs} runs" if runs > 1 else "one run"))
        print_table(rows(workload, peers))
        for peer, measured in peers.items():
            if measured.dropped:
                print(f"* {peer} lost {measured.dropped:,} frames: its rate counts the received frames, and its time "
                      "includes the wait for the lost ones")
            if measured.failures:
                print(f"* {peer} failed in {measured.failures} of {runs} runs")
    print()
    for peer, version in versions.items():
        print(f"{peer}: {version}")
    for peer, reason in left_out.items():
        print(f"{peer} was left out: {reason}")

    if file is not None:
        figures = {
            workload: {
                peer: {
                    "failures": measured.failures, "dropped": measured.dropped,
                    "figures": {
                        name: {"unit": figure["unit"], "values": measured.values(name)}
                        for name, figure in (measured.results[0]["figures"] if measured.results else {}).items()
                    },
                }
                for peer, measured in peers.items()
            }
            for workload, peers in workloads.items()
        }
        with open(file, "w", encoding="utf-8") as output:
            json.dump(
                {"machine": machine, "versions": versions, "left_out": left_out, "workloads": figures}, output, indent=1)
            output.write("\n")
    return 1 if any(measured.failures for peers in workloads.values() for measured in peers.values()) else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
