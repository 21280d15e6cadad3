#!/usr/bin/python3
"""Random frames through the SecY and through scapy's MACsec, in both directions: every octet has to agree.

  macsec_scapy.py BUILDDIR NUMBER
"""
import os
import random
import subprocess
import sys
import warnings

warnings.filterwarnings('ignore')
from scapy.contrib.macsec import MACsecSA  # noqa: E402
from scapy.all import Ether, IP, IPv6, TCP, UDP, Dot1Q, Raw, raw  # noqa: E402

build, number = sys.argv[1], int(sys.argv[2])
tool = subprocess.Popen([os.path.join(build, 'tests/tools/macsec_frame')], stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE, text=True)


def ask(*words):
    tool.stdin.write(' '.join(words) + '\n')
    tool.stdin.flush()
    return tool.stdout.readline().strip()


random.seed(2018)
rnd = random.randbytes
differ = 0
for i in range(number):
    xpn, enc, key_len, an = i & 1, (i >> 1) & 1, (16, 32)[(i >> 2) & 1], random.randrange(4)
    how = random.choice(('include', 'none'))
    key, sci, salt, ssci = rnd(key_len), rnd(8), rnd(12), random.getrandbits(32)
    pn = random.choice((1, 2, 0x7fffffff, 0x80000000, 0xfffffffe, random.getrandbits(31) + 1))
    if xpn:
        pn |= random.getrandbits(30) << 32
    frame = Ether(src=rnd(6), dst=rnd(6))
    if random.random() < .2:
        frame /= Dot1Q(vlan=random.randrange(1, 4095))
    frame /= random.choice((IP(src='192.0.2.1', dst='192.0.2.2') / UDP(), IPv6() / TCP(), Raw(rnd(2))))
    frame /= Raw(rnd(random.choice((0, 1, 2, 17, 60, 300, 1400, random.randrange(1460)))))
    extra = dict(xpn_en=True, ssci=ssci.to_bytes(4, 'big'), salt=salt) if xpn else {}
    sa = MACsecSA(sci=sci, an=an, pn=pn, key=key, icvlen=16, encrypt=enc, send_sci=how == 'include', **extra)
    want = raw(sa.encrypt(sa.encap(frame)))
    suite = 'gcm-aes-%s%d' % ('xpn-' if xpn else '', key_len * 8)
    words = (suite, str(an), key.hex(), sci.hex(), '%x' % ssci, salt.hex(), '%x' % pn,
             '0' if enc else 'integrity', how)
    made, back = ask('protect', *words, raw(frame).hex()), ask('validate', *words, want.hex())
    if made != want.hex() or back != raw(frame).hex():
        differ += 1
        if differ < 4:
            print('# %d %s %s pn %x: ours %s, back %s' % (i, suite, how, pn, made == want.hex(), back[:40]))
tool.stdin.close()
tool.wait()
print('%s 1 - %d frames of ours and of scapy agree, both ways' % ('not ok' if differ else 'ok', number))
print('1..1')
sys.exit(differ > 0)
