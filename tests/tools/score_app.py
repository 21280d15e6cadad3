#!/usr/bin/env python3
"""Ask App-ID about every capture of a corpus and score the answers with the scorer beside the corpora.

usage: score_app.py PICKETCTL CORPORA NAME [SCORER OPTION...]

Prints what the scorer prints.  Options such as -v (per label) and --scope all go to the scorer.
"""
import concurrent.futures
import csv
import json
import os
import subprocess
import sys
import tempfile


def flows(picketctl, path):
    """The flows of one capture, as rows of the scorer's input without the capture's name."""
    run = subprocess.run([picketctl, "dpi", "test-pcap", path, "-j"], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True, check=False)
    if run.returncode not in (0, 1):  # 1: the capture is damaged; what was read before that counts
        sys.exit(f"{os.path.basename(path)}: {run.stderr.strip()}")
    for line in run.stdout.splitlines():
        f = json.loads(line)
        if f["type"] == "flow":
            app = "" if f["app"] == "unknown" else f["app"]
            yield f["proto"].upper(), f["src"], f["sport"], f["dst"], f["dport"], app


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    picketctl, corpora, name, *options = sys.argv[1:]
    corpus = os.path.join(corpora, name)
    with open(os.path.join(corpus, "pcaps.csv"), newline="", encoding="utf-8") as f:
        pcaps = [row["pcap"] for row in csv.DictReader(f)]
    with tempfile.NamedTemporaryFile("w", suffix=".csv", newline="", encoding="utf-8") as out:
        rows = csv.writer(out)
        rows.writerow(["pcap", "l4", "src", "sport", "dst", "dport", "app"])
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            answers = pool.map(lambda p: list(flows(picketctl, os.path.join(corpus, "pcap", p))), pcaps)
            for pcap, answer in zip(pcaps, answers):
                rows.writerows((pcap, *row) for row in answer)
        out.flush()
        scorer = os.path.join(corpora, "score_appid.py")
        sys.exit(subprocess.run([sys.executable, scorer, corpus, out.name, *options], check=False).returncode)


if __name__ == "__main__":
    main()
