#!/bin/sh
# kill -9 of the policy server, of an agent, of both, of the data plane: enforcement goes on, and what
# comes back catches up.
LAB=pkf$$ # a name of its own: two runs may share a machine
. "$SRCDIR/tests/net/lib.sh"
need_lab
generation() { # DPU: what its data plane enforces
	dpuctl "$1" -j show plane | sed -n 's/.*"generation":\([0-9]*\).*/\1/p'
}
enforced() { # DPU GENERATION
	[ "$(generation "$1")" = "$2" ]
}

lab_up && lab_init && lab_start || { ok 'the lab stands' false; exit; }
spawn server web "$BUILDDIR/tests/tools/conns" serve 192.0.2.10 80
ok 'the first policy is accepted' quiet pkctl policy apply "$SRCDIR"/conf/demo/policy/*.yaml
open() { in_ns client "$BUILDDIR/tests/tools/conns" connect 192.0.2.10 80 1 0 >/dev/null 2>&1 && echo allow || echo deny; }
closed() { in_ns intruder "$BUILDDIR/tests/tools/conns" connect 192.0.2.10 80 1 0 >/dev/null 2>&1 && echo allow || echo deny; }
verdicts() { # WHEN
	is "$1: client -> web" allow "$(open)"
	is "$1: intruder -> web" deny "$(closed)"
}
verdicts 'at first'

for p in policyd agentd1 picketd1; do
	is "$p: threads that hold a capability, or may gain one" 0 \
		"$(cat /proc/$(pid_of $p)/task/*/status | grep -Ec 'Cap(Eff|Prm|Inh|Amb):.*[1-9a-f]|NoNewPrivs:.*0|Seccomp:.*0')"
done

end policyd KILL
verdicts 'without the server'
start_policyd
ok 'both DPUs are connected again' wait_for 30 dpus_connected 2

end agentd1 KILL
verdicts 'without an agent'
# What is decided meanwhile reaches the DPU when its agent is back.
pkctl policy apply --despite-tests "$SRCDIR/conf/demo/change/quarantine.yaml" >"$LAB_DIR/apply.txt" 2>&1
ok 'apply says that a DPU is not connected' grep -q '^dpu1 .*not connected' "$LAB_DIR/apply.txt"
verdicts 'the absent agent does not know'
start_agentd 1
ok 'dpu1 catches up' wait_for 30 enforced 1 2
is 'and enforces it: client -> web' deny "$(open)"

end policyd KILL
end agentd1 KILL
end agentd2 KILL
is 'without server and agents: client -> web' deny "$(open)"
start_agentd 1
start_agentd 2
sleep 1
is 'agents alone, with their last policy: client -> web' deny "$(open)"
start_policyd
ok 'all are connected again' wait_for 30 dpus_connected 2
ok 'rollback is accepted' quiet pkctl policy rollback 1
verdicts 'after rollback'

end picketd1 KILL
is 'without its data plane nothing passes' deny "$(open)"
start_picketd 1
ok 'the agent gives a new data plane its policy' wait_for 30 enforced 1 3
# Workloads may have given each other up meanwhile (RFC 4861 section 7.3, RFC 6298 section 5): their
# first attempt may fall into such a pause, the second may not.
is 'with a new data plane: client -> web' allow "$(open | grep allow || open)"
is 'with a new data plane: intruder -> web' deny "$(closed)"
for n in 1 2; do
	is "dpu$n: packets unaccounted for" 0 "$(unaccounted $n)"
done
