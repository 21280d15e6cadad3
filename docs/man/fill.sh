#!/bin/sh
# fill.sh PAGE.in BINDIR: the page, with @OPTIONS@ and @COMMANDS@ replaced by what the program says
# of itself.
set -eu
page=$1 bin=$2
program=$(basename "$page" | sed 's/\.[0-9]\.in$//')
awk -v options="$bin/$program --print-man" -v commands="$bin/$program -h" '
	/^@OPTIONS@$/ { while ((options | getline line) > 0) print line; next }
	/^@COMMANDS@$/ {
		print ".Bl -tag -width Ds"
		while ((commands | getline line) > 0) {
			if (line ~ /^  [a-z]/) print ".It Ic " substr(line, 3)
			else if (line ~ /^        /) print substr(line, 9)
		}
		print ".El"
		next
	}
	{ print }' "$page"
