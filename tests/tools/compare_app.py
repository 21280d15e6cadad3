#!/usr/bin/env python3
"""App-ID beside ndpiReader on the captures of a corpus: a table per label, and what each answered instead.

usage: compare_app.py PICKETCTL CORPORA NAME [NDPIREADER]

ndpiReader's names become labels by the table beside the corpora (protocols.csv).  Both are scored by the labels' tiers
gold, silver and author, at most ten flows of a capture and label.
"""
import collections
import csv
import ipaddress
import json
import os
import re
import subprocess
import sys

CAP = 10
FLOW = re.compile(r"^\t\d+\t(TCP|UDP) \[?([0-9a-fA-F.:]+?)\]?:(\d+) <?->? \[?([0-9a-fA-F.:]+?)\]?:(\d+) .*?\[proto: [0-9.]+/([^\]]+)\]")


def key(l4, src, sport, dst, dport):
    ends = [(str(ipaddress.ip_address(src)), int(sport)), (str(ipaddress.ip_address(dst)), int(dport))]
    return (l4, *sorted(ends))


def ours(picketctl, path):
    out = subprocess.run([picketctl, "dpi", "test-pcap", path, "-j"], capture_output=True, text=True, check=False).stdout
    for f in map(json.loads, out.splitlines()):
        if f["type"] == "flow" and f["proto"] in ("tcp", "udp"):
            yield key(f["proto"].upper(), f["src"], f["sport"], f["dst"], f["dport"]), f["app"]


def theirs(reader, path, slug):
    out = subprocess.run([reader, "-i", path, "-v", "2"], capture_output=True, check=False).stdout.decode("latin-1")
    for line in out.splitlines():
        m = FLOW.match(line)
        if m:
            try:  # some versions shorten an IPv6 address twice
                ends = key(*m.groups()[:5])
            except ValueError:
                continue
            names = m.group(6).split(".")
            # "TLS.Google": the protocol first, a service behind it.
            yield ends, next((slug[n] for n in reversed(names) if n in slug), "unknown")


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    picketctl, corpora, name = sys.argv[1:4]
    reader = sys.argv[4] if len(sys.argv) > 4 else "ndpiReader"
    with open(os.path.join(corpora, "protocols.csv"), newline="", encoding="utf-8") as f:
        slug = {n: row["label"] for row in csv.DictReader(f) for n in row["ndpi_names"].split()}
    with open(os.path.join(corpora, name, "labels.csv"), newline="", encoding="utf-8") as f:
        rows = [r for r in csv.DictReader(f) if r["l4"] in ("TCP", "UDP")]
    answers = {}
    for pcap in {r["pcap"] for r in rows}:
        path = os.path.join(corpora, name, "pcap", pcap)
        answers[pcap] = (dict(ours(picketctl, path)), dict(theirs(reader, path, slug)))
    count = collections.Counter()
    right = (collections.Counter(), collections.Counter())
    instead = (collections.defaultdict(collections.Counter), collections.defaultdict(collections.Counter))
    used = collections.Counter()
    negatives, named = 0, [0, 0]
    for r in rows:
        k = key(r["l4"], r["src"], r["sport"], r["dst"], r["dport"])
        if r["tier"].startswith("negative"):
            negatives += 1
            for i in range(2):
                named[i] += answers[r["pcap"]][i].get(k, "unknown") != "unknown"
            continue
        if r["tier"] not in ("gold", "silver", "author") or r["scope"] != "core":
            continue
        used[r["pcap"], r["label"]] += 1
        if used[r["pcap"], r["label"]] > CAP:
            continue
        count[r["label"]] += 1
        for i in range(2):
            app = answers[r["pcap"]][i].get(k, "unknown")
            if app in r["accept"].split():
                right[i][r["label"]] += 1
            else:
                instead[i][r["label"]][app] += 1
    print(f"{'LABEL':16} {'FLOWS':>5} {'PICKET':>7} {'NDPI':>7}  INSTEAD (Picket | ndpiReader)")
    for label in sorted(count):
        other = " | ".join(" ".join(f"{a}:{n}" for a, n in i[label].most_common(4)) or "-" for i in instead)
        print(f"{label:16} {count[label]:5} {right[0][label]:7} {right[1][label]:7}  {other if other != '- | -' else ''}")
    total = sum(count.values())
    for i, who in enumerate(("picket", "ndpiReader")):
        wrong = sum(n for c in instead[i].values() for a, n in c.items() if a != "unknown")
        macro = sum(right[i][label] / count[label] for label in count) / len(count)
        print(f"{who}: {total} flows, right {100 * sum(right[i].values()) / total:.1f} %, mean over labels {100 * macro:.1f} %, "
              f"wrong {100 * wrong / total:.1f} %, negatives named {named[i]} of {negatives}")


if __name__ == "__main__":
    main()
