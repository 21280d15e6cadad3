#!/bin/sh
# A change goes to a canary first: dpu1 of dpu1 and dpu2.  Then who may do what, and the log of it all.
HEARTBEAT=200ms
. "$SRCDIR/tests/net/agents_lib.sh"

rollout() { ctl -j policy rollout status | sed -n "1s/.*\"$1\":\"\{0,1\}\([^,}\"]*\).*/\1/p"; }
state_is() { [ "$(rollout state)" = "$1" ]; }
both() { echo "$(variants "$dir/dump1") $(variants "$dir/dump2")"; }
both_are() { [ "$(both)" = "$1" ]; }
as() { # OPERATOR command...
	who=$1
	shift
	"$bin/picketctl" -s 127.0.0.1:$port -i "$dir/$who" "$@" 2>>"$dir/ctl.log"
}
said() { tail -n "${2:-3}" "$dir/ctl.log" | grep -q -- "$1" || { tail -n 3 "$dir/ctl.log" | sed 's/^/# /'; return 1; }; }

write_policy 1
pd="$bin/picket-policyd -c /dev/null -o state-dir=$dir/policyd"
$pd init --domain test.example --server localhost,127.0.0.1 >"$dir/init.log"
for i in 1 2; do $pd issue dpu dpu$i "$dir/dpu$i.id" >>"$dir/init.log"; done
for o in admin:operator alice:alice bob:bob; do $pd issue operator ${o%:*} "$dir/${o#*:}" >>"$dir/init.log"; done
policyd
for i in 1 2; do start_plane $i; agentd $i; done
check 'both DPUs connect' until_true 20 eval 'connected 1 && connected 2'
check 'a canary needs something to go back to' is \
	"$(ctl policy apply "$dir/policy" --canary dpu1 --bake 1s >/dev/null; echo $?)" 1
check 'and says so' said 'no policy in force that a canary could go back to'
check 'a first policy is applied' quiet ctl policy apply "$dir/policy"

# ---- promoted ----
write_policy 2
check 'a canary that is nobody is refused' is \
	"$(ctl policy apply "$dir/policy" --canary 'dpu9*' --bake 1s >/dev/null; echo $?)" 1
check 'in one sentence' said 'the canary selects none of the DPUs known'
check '--canary wants --bake' is "$(ctl policy apply "$dir/policy" --canary dpu1 >/dev/null; echo $?)" 2
check 'a change goes to a canary' into "$dir/out" ctl policy apply "$dir/policy" --canary app=web --bake 2s -m second
check 'as a candidate' grep -q 'generation 2 is a candidate' "$dir/out"
check 'which its DPU alone enforces' is "$(both)" 'variant2 variant1'
check 'as status says' is "$(status 1 canary) $(status 2 canary)" 'true false'
check 'what is in force for the others stays so' is "$(ctl -j status | sed -n '1s/.*"generation":\([0-9]*\).*/\1/p')" 1
check 'nothing else is applied meanwhile' is "$(ctl policy apply "$dir/policy/web.yaml" --at-once >/dev/null; ctl policy rollback 1 >/dev/null; echo $?)" 1
check 'for the rollout comes first' said 'a rollout is under way'
sed 's/name: aside/name: late/; s/192.0.2.99/192.0.2.98/; s/dpu2/dpu1/' "$dir/policy/inventory.yaml" |
	awk 'BEGIN { RS = "---\n" } /late/' >"$dir/late.yaml"
sed -i 's/app: aside/app: web/' "$dir/late.yaml"
check 'workloads come under both policies' quiet ctl workload put shop/late "$dir/late.yaml"
check 'on the canary' grep -q '192.0.2.98 shop/late local=1' "$dir/dump1"
check 'and elsewhere' grep -q '192.0.2.98 shop/late local=0' "$dir/dump2"
check 'and each keeps its policy' is "$(both)" 'variant2 variant1'
check 'when it has baked it goes to all' until_true 10 both_are 'variant2 variant2'
check 'as a generation of its author' sh -c "$bin/picketctl -s 127.0.0.1:$port -i $dir/operator policy history | grep -q 'promote .*admin.*second'"
check 'the rollout is over' is "$(rollout state) $(status 1 canary)" 'promoted false'
check 'a candidate cannot be gone back to' is "$(ctl policy rollback 2 >/dev/null; echo $?)" 1
check 'for it has never been in force' said 'was a candidate'

# ---- aborted ----
write_policy 3
echo '5 0' >"$dir/dump1.counts"
sleep 0.6
check 'a change that denies too much' quiet ctl policy apply "$dir/policy" --canary dpu1 --bake 60s --abort-denied 10
check 'is on its canary' is "$(both)" 'variant3 variant2'
sleep 0.6
check 'what was refused before is not newly denied' is "$(rollout state) $(rollout denied)" 'baking 0'
echo '12 3' >"$dir/dump1.counts"
check 'what is refused, and what is cut, is' until_true 5 eval '[ "$(rollout revoked)" = 3 ]'
check 'up to the threshold it bakes on' state_is baking
echo '40 3' >"$dir/dump1.counts"
check 'beyond it is aborted' until_true 5 state_is aborted
check 'and its canary goes back' until_true 5 both_are 'variant2 variant2'
check 'the reason is kept' sh -c "$bin/picketctl -s 127.0.0.1:$port -i $dir/operator policy rollout status | grep -q 'newly denied; at most 10'"
touch "$dir/dump1.reject"
ctl policy apply "$dir/policy" --canary dpu1 --bake 60s >/dev/null
check 'a DPU that rejects it aborts it' until_true 5 state_is aborted
rm "$dir/dump1.reject"
check 'and has what all have' until_true 10 both_are 'variant2 variant2'

# ---- a server that dies in between ----
ctl policy apply "$dir/policy" --canary dpu1 --bake 60s --abort-denied 10 >/dev/null
before=$(rollout generation)
kill9 policyd
policyd
check 'a rollout outlives its server' until_true 10 eval 'connected 1 && connected 2 && [ "$(rollout generation)" = '"$before"' ]'
check 'and each DPU its policy' is "$(both) $(status 1 bytes_sent)" 'variant3 variant2 0'
echo '41 9' >"$dir/dump1.counts"
check 'what it has denied since its beginning is known' until_true 5 eval '[ "$(rollout revoked)" = 6 ]'
check 'an operator promotes it' quiet ctl policy rollout promote --message 'looks well'
check 'everywhere' until_true 5 both_are 'variant3 variant3'
write_policy 4
cat >"$dir/policy/rollout.yaml" <<'END'
apiVersion: picket.io/v1
kind: Rollout
metadata: {name: careful}
spec: {canary: {dpus: [dpu2]}, bake: 1m, abortDenied: 100}
END
check 'the kind Rollout says the same' quiet ctl policy apply "$dir/policy"
check 'and chooses its canary' until_true 5 both_are 'variant3 variant4'
kill9 policyd agentd2
policyd
agentd 2
check 'also after both have died' until_true 10 eval 'connected 1 && connected 2 && both_are "variant3 variant4"'
check 'an operator takes it back' quiet ctl policy rollout abort
check 'for good' until_true 5 both_are 'variant3 variant3'
check 'there is nothing more to abort' is "$(ctl policy rollout abort >/dev/null; echo $?)" 1
check '--at-once goes by it' quiet ctl policy apply "$dir/policy" --at-once
check 'to all' is "$(both)" 'variant4 variant4'

# ---- roles ----
cat >"$dir/roles.yaml" <<'END'
apiVersion: picket.io/v1
kind: Role
metadata: {name: shop-team}
spec: {subjects: [alice], may: [read, apply, rollback], tenants: [shop], tiers: [application]}
---
apiVersion: picket.io/v1
kind: Role
metadata: {name: watchers}
spec: {subjects: ["b*"], may: [read]}
END
check 'without roles every operator may everything' quiet as bob policy apply "$dir/policy/web.yaml" --at-once
check 'roles are applied' quiet ctl policy apply "$dir/roles.yaml" --at-once
sed -i 's/tcp\/1004/tcp\/2004/' "$dir/policy/web.yaml"
check 'who has the role writes its tier' quiet as alice policy apply "$dir/policy/web.yaml" --at-once
check 'who has not, does not' is "$(as bob policy apply "$dir/policy/web.yaml" --at-once >/dev/null; echo $?)" 1
check 'and reads why' said 'no role of operator "bob" has apply'
check 'he may read' quiet as bob policy show
sed 's/tier: application/tier: emergency/; s/name: web,/name: fire,/' "$dir/policy/web.yaml" >"$dir/fire.yaml"
check 'another tier is not hers' is "$(as alice policy apply "$dir/fire.yaml" --at-once >/dev/null; echo $?)" 1
check 'which is said' said 'no role of operator "alice" has apply for tier emergency of tenant "shop" (Policy "fire")'
sed 's/tenant: shop/tenant: bank/' "$dir/policy/web.yaml" >"$dir/bank.yaml"
check 'nor another tenant' is "$(as alice policy apply "$dir/bank.yaml" --at-once >/dev/null; echo $?)" 1
sed 's/alice/mallory/' "$dir/roles.yaml" >"$dir/coup.yaml"
check 'nor the roles, under any name' is "$(as alice policy apply "$dir/coup.yaml" --at-once >/dev/null; echo $?)" 1
check 'nor their removal' is "$(as alice policy apply --delete "$dir/roles.yaml" --at-once >/dev/null; echo $?)" 1
check 'which is said too' said 'no role of operator "alice" has govern (Role "shop-team")'
check 'nor a way back to before them' is "$(as alice policy rollback 1 >/dev/null; echo $?)" 1
check 'nor workloads' is "$(as alice workload delete shop/late >/dev/null; echo $?)" 1
kill9 policyd
policyd
until_true 10 connected 1
check 'roles hold after a restart' is "$(as bob policy apply "$dir/policy/web.yaml" --at-once >/dev/null; echo $?)" 1
check 'the admin is never locked out' quiet ctl policy apply "$dir/fire.yaml" --at-once

# ---- audit ----
log=$dir/policyd/audit.log
ctl audit show 100 >"$dir/audit"
for line in 'admin *candidate *done' 'picket-policyd *abort *done .*newly denied' 'admin *promote *done .*looks well' \
	'alice *apply *refused .*tier emergency' 'bob *call *denied .*has apply' 'alice *apply *done'; do
	check "the log has: $line" grep -Eq "$line" "$dir/audit"
done
check 'only who may reads it' is "$(as alice audit show >/dev/null; echo $?)" 1
check 'it is intact' into "$dir/out" ctl audit verify
hash=$(ctl -j audit verify | sed 's/.*"head":"\([0-9a-f]*\).*/\1/')
check 'and has the hash it had' quiet ctl audit verify "$hash"
kill9 policyd
cp "$log" "$dir/log.right"
tamper() { # what, sed script
	sed "$2" "$dir/log.right" >"$log"
	policyd
	until_true 10 connected 1
	check "$1 shows" is "$(ctl audit verify >/dev/null; echo $?)" 1
	kill9 policyd
}
tamper 'a line altered' '5s/"who":"[a-z-]*"/"who":"nobody"/'
check 'with its place' said 'audit.log:6: '
tamper 'a line taken out' 4d
tamper 'a line put in twice' 3p
head -n 8 "$dir/log.right" >"$log"
policyd
until_true 10 connected 1
check 'that the end is missing shows by its hash' is "$(ctl audit verify "$hash" >/dev/null; echo $?)" 1
check 'in one sentence' said 'its end has been cut off'
kill9 policyd
{ cat "$dir/log.right"; printf '{"n":99,"at'; } >"$log"
policyd
until_true 10 connected 1
check 'half a line of a crash is taken off' quiet ctl audit verify "$hash"
echo "1..$n"
[ $bad -eq 0 ]
