#!/bin/sh
# A change of policy holds for connections that are open: after `policy apply` has returned, no byte of
# what it denies arrives, on one connection or on a thousand.
LAB=pkv$$ # a name of its own: two runs may share a machine
. "$SRCDIR/tests/net/lib.sh"
need_lab
CONNS=$BUILDDIR/tests/tools/conns

lab_up && lab_init && lab_start || { ok 'the lab stands' false; exit; }
ok 'the first policy is accepted' quiet pkctl policy apply "$SRCDIR"/conf/demo/policy/*.yaml

for n in 1 1000; do
	spawn server web "$CONNS" serve 192.0.2.10 80
	wait_for 5 in_ns client "$CONNS" connect 192.0.2.10 80 1 0
	spawn capture client tcpdump -i eth0 -n -tt -l --immediate-mode 'src host 192.0.2.10 and tcp src port 80 and greater 67'
	spawn client client "$CONNS" connect 192.0.2.10 80 $n 60
	ok "$n connections are open and carry data" wait_for 20 grep -q "$n connected" "$LAB_DIR/client.log"
	sleep 1
	begin=$(date +%s.%N)
	pkctl policy apply --despite-tests "$SRCDIR/conf/demo/change/quarantine.yaml" >"$LAB_DIR/apply.txt"
	status=$?
	returned=$(date +%s.%N)
	is "apply of the denial with $n connections open" 0 $status
	sed 's/^/# /' "$LAB_DIR/apply.txt"
	sleep 2
	end capture
	# Frames by the time the kernel of the receiving workload took them.
	awk -v begin="$begin" -v returned="$returned" '
		$1 ~ /^[0-9]+\.[0-9]+$/ { if ($1 < begin) before++; else if ($1 > returned) after++; last = $1 }
		END { printf "%d %d %.1f\n", before, after, (returned - last) * 1000 }' "$LAB_DIR/capture.log" >"$LAB_DIR/count.txt"
	read -r before after margin <"$LAB_DIR/count.txt"
	ok "data flowed before the change ($before frames)" [ "$before" -ge $n ]
	is "frames with data after apply returned, of $n connections (last one $margin ms before)" 0 "$after"
	end client
	end server
	pkctl policy rollback 1 >/dev/null
	: >"$LAB_DIR/client.log"
	: >"$LAB_DIR/capture.log"
done

# The same as a canary's: what it cuts is counted, and takes it back.
rollout_is() { pkctl -j policy rollout status | grep -q "\"state\":\"$1\""; }
spawn server web "$CONNS" serve 192.0.2.10 80
wait_for 5 in_ns client "$CONNS" connect 192.0.2.10 80 1 0
spawn client client "$CONNS" connect 192.0.2.10 80 20 60
ok '20 connections are open' wait_for 20 grep -q '20 connected' "$LAB_DIR/client.log"
sleep 1
ok 'a canary is sent the denial' quiet pkctl policy apply --despite-tests --canary dpu1 --bake 60s --abort-denied 5 \
	"$SRCDIR/conf/demo/change/quarantine.yaml"
ok 'which is aborted for what it cuts' wait_for 10 rollout_is aborted
revoked=$(pkctl -j policy rollout status | sed -n '1s/.*"revoked":\([0-9]*\).*/\1/p')
ok "the sessions that were open ($revoked)" [ "${revoked:-0}" -gt 5 ]
end client
ok 'and allowed again' wait_for 10 in_ns client "$CONNS" connect 192.0.2.10 80 1 0
end server
for n in 1 2; do
	is "dpu$n: packets unaccounted for" 0 "$(unaccounted $n)"
done
