#!/bin/sh
# The operator's view of sessions: filters and pages, ends that are told or not, a workload carried away and back,
# packets with their verdicts.
LAB=pks$$ # a name of its own: two runs may share a machine
. "$SRCDIR/tests/net/lib.sh"
need_lab
CONNS=$BUILDDIR/tests/tools/conns
NB=200

count() { # FILTER...
	dpuctl 1 -j show sessions "$@" | grep -c '"src"'
}

nb_open() { # connections as the client's kernel sees them
	in_ns client ss -Htn state established 'dport = :80' | wc -l
}

bytes_read() {
	in_ns client ss -Htin state established 'dport = :80' | sed -n 's/.*bytes_received:\([0-9]*\).*/\1/p' | awk '{ n += $1 } END { print n + 0 }'
}

flowing() { # each connection gets a byte every 20 ms
	was=$(bytes_read)
	sleep 0.5
	[ "$(bytes_read)" -gt $((was + NB)) ]
}

none_open() {
	[ "$(nb_open)" = 0 ]
}

key() { # NAME: of a JSON line
	sed -n "s/.*\"$1\":\([0-9][0-9]*\).*/\1/p"
}

lab_up && lab_init && lab_start || { ok 'the lab stands' false; exit; }
ok 'the first policy is accepted' quiet pkctl policy apply "$SRCDIR"/conf/demo/policy/*.yaml
spawn server web "$CONNS" serve 192.0.2.10 80
wait_for 5 in_ns client "$CONNS" connect 192.0.2.10 80 1 0
spawn client client "$CONNS" connect 192.0.2.10 80 $NB 300
ok "$NB connections are open and carry data" wait_for 20 grep -q "$NB connected" "$LAB_DIR/client.log"

# Either end of a connection is behind a wire of dpu1, so it has two sessions there.
est='state established dport 80'
is 'all of them' $((2 * NB)) "$(count $est)"
is 'by wire' $NB "$(count $est wire 1)"
is 'by direction' $NB "$(count $est direction egress)"
is 'by workload' $NB "$(count $est workload shop/client)"
is 'by address of a workload' $NB "$(count $est workload 192.0.2.10)"
is 'by tenant' $((2 * NB)) "$(count $est tenant shop)"
is 'by another tenant' 0 "$(count $est tenant other)"
is 'by prefix' $((2 * NB)) "$(count $est src 192.0.2.16/28)"
is 'by either port' $((2 * NB)) "$(count state established port 80)"
is 'by rule' $NB "$(count $est rule client/anywhere)"
is 'by idle time' 0 "$(count $est idle 30s)"
is 'by age' 0 "$(count $est older 1h)"
dpuctl 1 -j show sessions $est limit 150 >"$LAB_DIR/page1"
at=$(tail -1 "$LAB_DIR/page1" | sed -n 's/.*"at":"\([0-9.]*\)".*/\1/p')
dpuctl 1 -j show sessions $est after "$at" >"$LAB_DIR/page2"
is 'a page' 150 "$(wc -l <"$LAB_DIR/page1")"
is 'and the rest' $((2 * NB)) "$(cat "$LAB_DIR/page1" "$LAB_DIR/page2" | key id | sort -u | wc -l)"
is 'show tenants' $((2 * NB)) "$(dpuctl 1 -j show tenants | grep '"shop"' | key sessions | awk -v nb=$((2 * NB)) '{ print ($1 >= nb) ? nb : $1 }')"
is 'show top by sessions' shop/client "$(dpuctl 1 -j show top by sessions limit 2 $est | sed -n 's/.*"workload":"\(shop.client\)".*/\1/p')"
is 'a word that is none' 1 "$(dpuctl 1 show sessions sorce 192.0.2.1 2>"$LAB_DIR/said"; echo $?)"
ok 'says what was meant' grep -q 'is no filter; there are\|did you mean src' "$LAB_DIR/said"
is 'kill without a filter is refused' 1 "$(dpuctl 1 kill sessions 2>/dev/null; echo $?)"

# Packets with verdicts.
dpuctl 1 -j capture host 192.0.2.10 proto tcp --count 50 --seconds 10 -w "$LAB_DIR/c.pcapng" >"$LAB_DIR/captured"
is 'captured' 50 "$(key packets <"$LAB_DIR/captured")"
is 'and can be read' 50 "$(tcpdump -n -r "$LAB_DIR/c.pcapng" 'tcp port 80' 2>/dev/null | wc -l)"
ok 'with rule and verdict' sh -c "strings '$LAB_DIR/c.pcapng' 2>/dev/null | grep -q 'pass; established.*rule client/anywhere' || grep -aq 'pass; established.*rule client/anywhere' '$LAB_DIR/c.pcapng'"
dpuctl 2 -j capture drops --count 1 --seconds 5 --snaplen 60 -w "$LAB_DIR/d.pcapng" >"$LAB_DIR/captured" &
pid=$!
sleep 0.5
in_ns client curl -s --max-time 1 http://192.0.2.30:6379/ >/dev/null
wait $pid
is 'a drop captured' 1 "$(key packets <"$LAB_DIR/captured")"
ok 'by its name' grep -aq 'drop: rule-reject; .*rule db/others' "$LAB_DIR/d.pcapng"
ok 'and its length' sh -c "tcpdump -n -e -r '$LAB_DIR/d.pcapng' 2>/dev/null | grep -q 'length 74:'"

# A workload is carried away, and comes back.
is 'exported' $NB "$(dpuctl 1 -j sessions export $est workload shop/client -w "$LAB_DIR/moved" | key exported)"
is 'as a stream' "$(wc -c <"$LAB_DIR/moved")" "$(dpuctl 1 sessions export $est workload shop/client -w - | wc -c)"
is 'killed in silence' $NB "$(dpuctl 1 -j kill sessions $est workload shop/client | key killed)"
sleep 0.3
is 'nothing flows' stopped "$(flowing && echo flows || echo stopped)"
is 'imported' $NB "$(dpuctl 1 -j sessions import "$LAB_DIR/moved" | grep '"installed"' | key sessions)"
ok 'data flows again' wait_for 10 flowing
is 'all connections are open' $NB "$(nb_open)"
is 'imported again: they are there' $NB "$(dpuctl 1 -j sessions import - <"$LAB_DIR/moved" | grep '"there"' | key sessions)"
is 'imported where the workload is not' $NB "$(dpuctl 2 -j sessions import "$LAB_DIR/moved" | grep '"refused: no-subject"' | key sessions)"
is 'what is no file of records' 1 "$(dpuctl 1 sessions import /etc/passwd >/dev/null 2>&1; echo $?)"

# And told.  A RST that crosses data is in the window and not exact, and need not be believed (RFC 5961 section 3): so the
# server is silent meanwhile.
kill -STOP "$(cat "$LAB_DIR/server.pid")"
sleep 0.5
is 'killed and told' $NB "$(dpuctl 1 -j kill sessions $est wire 1 tell | key killed)"
ok 'the ends know' wait_for 5 none_open
kill -CONT "$(cat "$LAB_DIR/server.pid")"
is 'no session of theirs is left' 0 "$(count $est wire 1)"
for n in 1 2; do
	is "dpu$n: packets unaccounted for" 0 "$(unaccounted $n)"
done
