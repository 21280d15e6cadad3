#!/bin/sh
# From `picketctl policy apply` to what data planes hold, and back after every kind of death.
#
#                       picket-policyd (store)
#                        /            \          mTLS on the loopback
#             picket-agentd 1     picket-agentd 2
#                  |                    |        SOCK_SEQPACKET
#             fake_plane 1        fake_plane 2   each writes what it enforces to a file
#
# No root and no namespaces: the planes are tests/tools/fake_plane, which checks each transaction as
# a data plane does and enforces nothing.
. "$SRCDIR/tests/net/agents_lib.sh"
kills=${KILLS:-200}
write_policy 1

# ---- certificates -------------------------------------------------------------------------------
pd="$bin/picket-policyd -c /dev/null -o state-dir=$dir/policyd"
check 'init makes an authority' quiet $pd init --domain test.example --server localhost,127.0.0.1
check 'init does not overwrite it' sh -c "! $pd init --domain test.example 2>/dev/null"
for i in 1 2; do $pd issue dpu dpu$i "$dir/dpu$i.id" >>"$dir/init.log"; done
$pd issue operator alice "$dir/operator" >>"$dir/init.log"
check 'issue does not overwrite an identity' sh -c "! $pd issue operator alice $dir/operator 2>/dev/null"
check 'keys are for their owner alone' is "$(stat -c %a "$dir/operator/identity.key")" 600

# ---- apply --------------------------------------------------------------------------------------
policyd
for i in 1 2; do start_plane $i; agentd $i; done
check 'both DPUs connect' until_true 20 eval 'connected 1 && connected 2'
check 'a first policy is applied' into "$dir/out" ctl policy apply "$dir/policy" --message first
sed 's/^/# /' "$dir/out"
check 'it returns when DPU 1 enforces it' is "$(generation_of 1)" 1
check 'and DPU 2' is "$(generation_of 2)" 1
check 'a DPU is told nothing it does not need' sh -c "! grep -q aside '$dir/dump1'"
check 'the author is in the history' sh -c "$bin/picketctl -s 127.0.0.1:$port -i $dir/operator policy history | grep -q 'alice.*first'"
check 'applying the same again changes nothing' sh -c \
	"$bin/picketctl -s 127.0.0.1:$port -i $dir/operator policy apply $dir/policy | grep -q 'nothing to change'"
cp "$dir/dump1" "$dir/before"
printf 'kind: Policy\n' >"$dir/wrong.yaml"
check 'a policy with a mistake is refused' is "$(ctl policy apply "$dir/wrong.yaml" >/dev/null; echo $?)" 1
check 'in one sentence with file, line and column' sh -c "tail -n 2 '$dir/ctl.log' | grep -q 'wrong.yaml:1:1: '"
check 'and the one in force stays' cmp "$dir/before" "$dir/dump1"
check 'explain names rule, file and line' sh -c "$bin/picketctl -s 127.0.0.1:$port -i $dir/operator \
	explain shop/web shop/db tcp/1001 | grep -q 'db.yaml:[0-9]'"
check 'the policies that apply to a workload are listed' sh -c "$bin/picketctl -s 127.0.0.1:$port -i $dir/operator \
	policy applied shop/db | grep -q '^application *shop *db$'"
check 'and one that is not there is named' sh -c "$bin/picketctl -s 127.0.0.1:$port -i $dir/operator \
	policy applied shop/nobody 2>&1 | grep -q 'no workload \"shop/nobody\"'"
check 'a DPU may not administer' sh -c "! $bin/picketctl -s 127.0.0.1:$port -i $dir/dpu1.id status 2>/dev/null"

# ---- changes, refusal, delay --------------------------------------------------------------------
write_policy 2
check 'a change is applied' quiet ctl policy apply "$dir/policy"
check 'as a change, not from the beginning' is "$(last 1 | cut -d' ' -f1,2)" '2 changes'
write_policy 3
touch "$dir/dump1.reject"
check 'apply says so when a data plane refuses' is "$(ctl policy apply "$dir/policy" >/dev/null; echo $?)" 1
check 'naming the DPU and the reason' grep -q 'dpu1 has not realised generation 3: .*told to reject' "$dir/ctl.log"
check 'which keeps what it has' is "$(variants "$dir/dump1")" variant2
check 'while the other goes on' is "$(variants "$dir/dump2")" variant3
check 'and status tells of it' is "$(status 1 state)" rejected
rm "$dir/dump1.reject"
write_policy 4
check 'the next one is taken, from what is really held' quiet ctl policy apply "$dir/policy"
check 'by both' is "$(variants "$dir/dump1") $(variants "$dir/dump2")" 'variant4 variant4'
write_policy 5
touch "$dir/dump2.hold"
check 'apply does not wait longer than told' is "$(ctl policy apply "$dir/policy" --timeout 300ms >/dev/null; echo $?)" 1
rm "$dir/dump2.hold"
check 'and the DPU follows' until_true 5 realised 2 5
check 'a rollback can be tried' quiet ctl policy rollback 2 --dry-run
check 'and nothing has changed' is "$(variants "$dir/dump1") $(variants "$dir/dump2")" 'variant5 variant5'
check 'nor to what is not there' is "$(ctl policy rollback 77 --dry-run >/dev/null; echo $?)" 1
check 'rollback brings an older policy back' quiet ctl policy rollback 2
check 'whole' is "$(variants "$dir/dump1") $(variants "$dir/dump2")" 'variant2 variant2'

# ---- workloads ----------------------------------------------------------------------------------
cat >"$dir/web2.yaml" <<'END'
apiVersion: picket.io/v1
kind: Workload
metadata: {name: web2, tenant: shop, labels: {app: web}}
spec: {addresses: [192.0.2.11], dpu: dpu1, wire: 1}
END
before1=$(status 1 bytes_sent) before2=$(status 2 bytes_sent)
check 'a workload is added' quiet ctl workload put shop/web2 "$dir/web2.yaml"
check 'behind its DPU' grep -q '192.0.2.11 shop/web2 local=1' "$dir/dump1"
check 'and known to the one whose rules name its like' grep -q '192.0.2.11 shop/web2 local=0' "$dir/dump2"
bytes=$(($(status 2 bytes_sent) - before2))
echo "# the other DPU was sent $bytes bytes for it"
check 'for less than 128 bytes' [ $bytes -lt 128 ]
sed -i 's/app: web/app: batch/' "$dir/web2.yaml"
check 'a workload is relabelled' quiet ctl workload put shop/web2 "$dir/web2.yaml"
check 'and is gone where it no longer matters' sh -c "! grep -q 192.0.2.11 '$dir/dump2'"
check 'a workload is removed' quiet ctl workload delete shop/web2
check 'everywhere' sh -c "! grep -q 192.0.2.11 '$dir/dump1'"
check 'what is no workload is refused' is "$(ctl workload put shop/x "$dir/wrong.yaml" >/dev/null; echo $?)" 1
generation=$(generation_of 1)

# ---- deaths -------------------------------------------------------------------------------------
cp "$dir/dump1" "$dir/before"
transactions=$(wc -l <"$dir/transactions1")
kill9 policyd
sleep 0.3
check 'without its server a DPU enforces on' cmp "$dir/before" "$dir/dump1"
policyd
check 'which, when it is back, finds both' until_true 10 eval 'connected 1 && connected 2'
sleep 0.3
check 'and sends them nothing, for they hold all of it' is "$(status 1 bytes_sent) $(status 2 bytes_sent)" '0 0'
check 'nor has the data plane been touched' is "$(generation_of 1) $(wc -l <"$dir/transactions1")" "$generation $transactions"

kill9 agentd1
write_policy 7
check 'a DPU that is away is not waited for' into "$dir/out" ctl policy apply "$dir/policy"
check 'but named' grep -q 'dpu1  *away' "$dir/out"
check 'and enforces what it had' is "$(variants "$dir/dump1")" variant2
agentd 1
check 'back, it follows' until_true 10 realised 1 10
check 'by the changes alone' is "$(last 1 | cut -d' ' -f1,2)" '10 changes'

kill9 policyd agentd1 agentd2
check 'without both the planes enforce on' is "$(variants "$dir/dump1") $(variants "$dir/dump2")" 'variant7 variant7'
kill9 plane1
rm "$dir/dump1"
start_plane 1
agentd 1
check 'a DPU that boots without its server enforces what is on its disk' until_true 5 eval '[ "$(generation_of 1)" = 10 ]'
agentd 2
policyd
check 'and all find each other again' until_true 10 eval 'connected 1 && connected 2'
write_policy 8
check 'and go on' quiet ctl policy apply "$dir/policy"

kill9 agentd1 plane1
printf 'x' | dd of="$dir/state1/policy.state" bs=1 seek=100 conv=notrunc 2>/dev/null
start_plane 1
agentd 1
check 'a damaged state is not believed' until_true 5 grep -q 'is damaged (its SHA-256' "$dir/agentd1.log"
check 'and all of it comes from the server' until_true 10 realised 1 11
check 'as one whole' is "$(last 1 | cut -d' ' -f1,2)" '11 full'
kill9 plane2
start_plane 2
check 'a data plane that restarts gets all of it' until_true 5 eval '[ "$(last 2 | cut -d" " -f1,2)" = "11 full" ]'

# ---- kill -9 of the server in the middle of an apply --------------------------------------------
old=8 mixed=0 lost=0 unopened=0 took_new=0 i=0
while [ $i -lt "$kills" ]; do
	i=$((i + 1))
	new=$((100 + i))
	write_policy $new
	ctl policy apply "$dir/policy" --no-wait >/dev/null &
	asked=$!
	# At a random instant of about 60 ms, which an apply from start to realised fits in.
	sleep "0.$(printf '%03d' $(($(od -An -N2 -tu2 /dev/urandom) % 60)))"
	kill9 policyd
	wait $asked
	acknowledged=$?
	policyd
	if ! until_true 10 ctl policy history; then
		unopened=$((unopened + 1))
		continue
	fi
	ctl policy show >"$dir/shown"
	case $(variants "$dir/shown") in
	variant$new) took_new=$((took_new + 1)) old=$new ;;
	variant$old) [ $acknowledged -ne 0 ] || lost=$((lost + 1)) ;;
	*) mixed=$((mixed + 1)) ;;
	esac
	for d in 1 2; do
		case $(variants "$dir/dump$d") in
		*' '*) mixed=$((mixed + 1)) ;;
		esac
	done
done
echo "# $kills kills: $took_new came after the commit, $((kills - took_new)) before"
check "the store opens after each of $kills kills" is $unopened 0
check 'with the old or the new policy, whole; and so do the planes' is $mixed 0
check 'nothing that was acknowledged is lost' is $lost 0
current=$(ctl -j policy history | sed -n '1s/.*"generation":\([0-9]*\).*/\1/p')
check 'in the end both DPUs enforce what the server holds' until_true 20 eval \
	'[ "$(variants "$dir/dump1")" = variant$old ] && [ "$(variants "$dir/dump2")" = variant$old ]'
check 'no transaction of all these was refused but the one told to' is \
	"$(cat "$dir"/transactions? | grep -vc realised)" 1

# ---- the end ------------------------------------------------------------------------------------
for name in policyd agentd1 agentd2; do
	p=$(cat "$dir/$name.pid")
	kill -TERM $p
	wait $p
	check "$name ends cleanly on SIGTERM" is $? 0
	rm "$dir/$name.pid"
done
echo "1..$n"
[ $bad -eq 0 ]
