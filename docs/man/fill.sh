#!/bin/sh
# fill.sh PAGE.in BINDIR: the page with @OPTIONS@ replaced by what the program says of itself.
set -eu
page=$1 bin=$2
program=$(basename "$page" | sed 's/\.[0-9]\.in$//')
awk -v cmd="$bin/$program --print-man" '
	/^@OPTIONS@$/ { while ((cmd | getline line) > 0) print line; next }
	{ print }' "$page"
