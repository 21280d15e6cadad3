"""ESP against scapy: random packets, all suites and modes, both directions.

  esp_scapy.py ESP_PEER [PACKETS [SEED]]

What Picket protects scapy has to read, and what scapy protects Picket has to read, to the byte; the same with every
header bit that is not the packet's own to choose (DSCP, ECN) as the standards say.  Prints TAP.
"""
import random
import struct
import subprocess
import sys
import warnings

warnings.simplefilter("ignore")
from scapy.layers.inet import ICMP, IP, TCP, UDP  # noqa: E402
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop  # noqa: E402
from scapy.layers.ipsec import ESP, IPSecIntegrityError, SecurityAssociation  # noqa: E402
from scapy.layers.l2 import Ether  # noqa: E402
from scapy.packet import Raw  # noqa: E402

# name, ENCR, bits, INTEG, key bytes, integrity key bytes, scapy's names
SUITES = [
    ("aes-128-gcm", 20, 128, 0, 20, 0, "AES-GCM", None),
    ("aes-192-gcm", 20, 192, 0, 28, 0, "AES-GCM", None),
    ("aes-256-gcm", 20, 256, 0, 36, 0, "AES-GCM", None),
    ("chacha20-poly1305", 28, 0, 0, 36, 0, "CHACHA20-POLY1305", None),
    ("aes-128-cbc-sha-256", 12, 128, 12, 16, 32, "AES-CBC", "SHA2-256-128"),
    ("aes-192-cbc-sha-256", 12, 192, 12, 24, 32, "AES-CBC", "SHA2-256-128"),
    ("aes-256-cbc-sha-384", 12, 256, 13, 32, 48, "AES-CBC", "SHA2-384-192"),
    ("aes-256-cbc-sha-512", 12, 256, 14, 32, 64, "AES-CBC", "SHA2-512-256"),
    ("null-sha-256", 11, 0, 12, 0, 32, "NULL", "SHA2-256-128"),
]

rnd = random.Random()
failures = []


def bytes_of(n):
    return bytes(rnd.getrandbits(8) for _ in range(n))


class EsnMac:
    """scapy 2.5 leaves the upper half of the number out of MACs; RFC 4303, section 2.2.1, appends it."""

    def __init__(self, algo):
        self.algo, self.icv_size, self.esn = algo, algo.icv_size, 0

    def __getattr__(self, name):
        return getattr(self.algo, name)

    def icv(self, data, key):
        mac = self.algo.new_mac(key)
        mac.update(data + struct.pack("!L", self.esn))
        return mac.finalize()[:self.icv_size]

    def sign(self, pkt, key):
        pkt[ESP].data += self.icv(bytes(pkt[ESP]), key)
        return pkt

    def verify(self, pkt, key):
        data = bytes(pkt[ESP])
        if self.icv(data[:-self.icv_size], key) != data[-self.icv_size:]:
            raise IPSecIntegrityError("ICV")


class Peer:
    def __init__(self, path):
        self.p = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line):
        self.p.stdin.write(line + "\n")
        self.p.stdin.flush()
        return self.p.stdout.readline().strip()

    def burst(self, lines):
        self.p.stdin.write("\n".join(lines) + "\ngo\n")
        self.p.stdin.flush()
        return [self.p.stdout.readline().strip() for _ in lines]

    def close(self):
        self.p.stdin.close()
        return self.p.wait()


class Sa:
    """A pair of SAs, one for each direction, at Picket, and the same at scapy."""
    number = 1

    def __init__(self, peer, suite, mode, family, esn, encap, transport_family=None):
        name, encr, bits, integ, keylen, integlen, crypt, auth = suite
        self.suite, self.mode, self.family, self.esn, self.encap = suite, mode, family, esn, encap
        self.us, self.them = ("192.0.2.1", "198.51.100.2") if family == 4 else ("2001:db8::1", "2001:db8::2")
        self.text = "%s %s IPv%d%s%s" % (name, mode, family, " ESN" if esn else "", " UDP" if encap else "")
        flags = (1 if esn else 0) | (2 if encap else 0)
        self.start = 0
        if esn and rnd.random() < 0.7:
            # close below the end of a lower half, so that both sides have to carry over
            self.start = rnd.randrange(1, 5) * (1 << 32) - rnd.randrange(1, 40)
        ports = "4500 4500" if encap else "0 0"
        self.index, self.scapy, self.seq = {}, {}, {}
        for way in ("out", "in"):
            key, integ_key = bytes_of(keylen), bytes_of(integlen)
            spi = 0x1000 + Sa.number if way == "out" else 0xc0000000 + 2 * Sa.number + 1
            src, dst = (self.us, self.them) if way == "out" else (self.them, self.us)
            a = peer.ask("sa %s %s %x %d %d %d %s %s %s %s %d %d %s 0 0 0 %d" % (
                way, mode, spi, encr, bits, integ, key.hex() or "-", integ_key.hex() or "-", src, dst,
                rnd.choice([64, 128, 1024, 4096]), flags, ports, self.start))
            if not a.startswith("ok "):
                raise SystemExit("Bail out! %s: %s" % (self.text, a))
            self.index[way] = int(a.split()[1])
            header = None
            if mode == "tunnel":
                header = IP(src=src, dst=dst) if family == 4 else IPv6(src=src, dst=dst)
            self.scapy[way] = SecurityAssociation(
                ESP, spi=spi, crypt_algo=crypt, crypt_key=key or None, auth_algo=auth,
                auth_key=integ_key if auth else None, tunnel_header=header, esn_en=esn,
                nat_t_header=UDP(sport=4500, dport=4500) if encap else None)
            # scapy takes a number of 0 for none, and then its own
            self.scapy[way].seq_num = 0
            if esn and auth:
                self.scapy[way].auth_algo = EsnMac(self.scapy[way].auth_algo)
            self.seq[way] = self.start
        Sa.number += 1

    def next(self, way):
        """The next number, of which scapy is told the upper half."""
        self.seq[way] += 1
        if isinstance(self.scapy[way].auth_algo, EsnMac):
            self.scapy[way].auth_algo.esn = self.seq[way] >> 32
        return self.seq[way]

    def packet(self, way):
        """One that this SA may carry, as bytes, with good checksums."""
        family = self.family if self.mode == "transport" else rnd.choice([4, 6])
        if self.mode == "transport":
            src, dst = (self.us, self.them) if way == "out" else (self.them, self.us)
        else:
            src, dst = ("10.0.0.1", "10.0.1.2") if family == 4 else ("2001:db8:a::1", "2001:db8:b::2")
        tos = rnd.randrange(256)
        if family == 4:
            ip = IP(src=src, dst=dst, tos=tos, id=rnd.randrange(65536), ttl=rnd.randrange(1, 256),
                    flags=rnd.choice(["", "DF"]))
        else:
            ip = IPv6(src=src, dst=dst, tc=tos, hlim=rnd.randrange(1, 256), fl=rnd.randrange(1 << 20))
            if self.mode == "tunnel" and rnd.random() < 0.2:
                ip = ip / IPv6ExtHdrHopByHop() if rnd.random() < 0.5 else ip / IPv6ExtHdrDestOpt()
        load = Raw(bytes_of(rnd.choice([0, 1, 3, 16, 31, rnd.randrange(1200)])))
        upper = rnd.choice([UDP(sport=rnd.randrange(1, 65536), dport=53), TCP(sport=1000, dport=80, seq=rnd.randrange(1 << 32)),
                            ICMP(id=7) if family == 4 else UDP(sport=9, dport=9)])
        return bytes(ip / upper / load)


def parse(data):
    return IP(data) if data[0] >> 4 == 4 else IPv6(data)


def frame(data):
    return Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02",
                 type=0x0800 if data[0] >> 4 == 4 else 0x86dd) / Raw(data)


def tos_of(data):
    return data[1] if data[0] >> 4 == 4 else (data[0] << 4 | data[1] >> 4) & 255


def outbound(peer, sa, n):
    packets = [sa.packet("out") for _ in range(n)]
    got = peer.burst(["out %d %s" % (sa.index["out"], bytes(frame(p)).hex()) for p in packets])
    for p, g in zip(packets, got):
        if g.startswith("error"):
            failures.append("%s: out: %s" % (sa.text, g))
            continue
        f = bytes.fromhex(g)
        sa.next("out")
        outer = f[14:]
        want_type = 0x0800 if outer[0] >> 4 == 4 else 0x86dd
        if struct.unpack("!H", f[12:14])[0] != want_type:
            failures.append("%s: out: EtherType" % sa.text)
        ip = parse(outer)
        # checksum and lengths of what goes out are as scapy would compute them
        again = parse(outer)
        if ip.version == 4:
            again.chksum = None
            if bytes(parse(bytes(again))) != outer or ip.len != len(outer):
                failures.append("%s: out: outer header" % sa.text)
        elif ip.plen + 40 != len(outer):
            failures.append("%s: out: outer length" % sa.text)
        if sa.mode == "tunnel" and tos_of(outer) != tos_of(p):
            failures.append("%s: out: DSCP or ECN are not carried over" % sa.text)
        try:
            if sa.esn:
                esn = sa.seq["out"] >> 32
                plain = sa.scapy["out"].decrypt(ip, esn_en=True, esn=esn)
            else:
                plain = sa.scapy["out"].decrypt(ip)
            # the number that is sent
            at = outer.find(struct.pack("!I", sa.scapy["out"].spi))
            if struct.unpack("!I", outer[at + 4:at + 8])[0] != sa.seq["out"] & 0xffffffff:
                failures.append("%s: out: sequence number" % sa.text)
            if bytes(plain) != p:
                failures.append("%s: out: scapy reads something else" % sa.text)
        except Exception as e:
            failures.append("%s: out: scapy: %s %s" % (sa.text, type(e).__name__, e))


def inbound(peer, sa, n):
    lines, packets = [], []
    for _ in range(n):
        p = sa.packet("in")
        s = sa.next("in")
        inner_tos = tos_of(p)
        out = sa.scapy["in"].encrypt(parse(p), seq_num=s & 0xffffffff, **(
            {"esn_en": True, "esn": s >> 32} if sa.esn else {}))
        data = bytes(out)
        if sa.encap:
            # scapy leaves UDP.len at 8
            at = 20 if data[0] >> 4 == 4 else 40
            data = data[:at + 4] + struct.pack("!H", len(data) - at) + data[at + 6:]
        # A congested router on the way, if it may mark (RFC 6040)
        want = p
        if sa.mode == "tunnel" and inner_tos & 3 and rnd.random() < 0.3:
            o = parse(data)
            if o.version == 4:
                o.tos = o.tos | 3
                o.chksum = None
            else:
                o.tc = o.tc | 3
            data = bytes(o)
            w = parse(p)
            if w.version == 4:
                w.tos |= 3
                w.chksum = None
            else:
                w.tc |= 3
            want = bytes(w)
        lines.append("in " + bytes(frame(data)).hex())
        packets.append(want)
    got = peer.burst(lines)
    for want, g in zip(packets, got):
        if g.startswith("error"):
            failures.append("%s: in: %s" % (sa.text, g))
            continue
        f = bytes.fromhex(g)
        if f[14:] != want:
            failures.append("%s: in: Picket reads something else\n# %s\n# %s" % (sa.text, f[14:].hex(), want.hex()))
        if struct.unpack("!H", f[12:14])[0] != (0x0800 if want[0] >> 4 == 4 else 0x86dd):
            failures.append("%s: in: EtherType" % sa.text)
    # all of them once more, in another order: each has come
    again = list(lines)
    rnd.shuffle(again)
    for g in peer.burst(again):
        if g.split()[:2] not in (["error", "esp-replay"], ["error", "esp-old"]):
            failures.append("%s: in: a second time: %s" % (sa.text, g[:60]))


def main():
    packets = int(sys.argv[2]) if len(sys.argv) > 2 else 1500
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    rnd.seed(seed)
    peer = Peer(sys.argv[1])
    kinds = [(s, m, f, e, u) for s in SUITES for m in ("tunnel", "transport") for f in (4, 6)
             for e in (False, True) for u in (False, True)
             # UDP over IPv6 scapy does not do
             if not (u and f == 6)]
    done = 0
    while done < packets:
        for kind in kinds:
            sa = Sa(peer, *kind)
            n = rnd.randrange(1, 17)
            outbound(peer, sa, n)
            inbound(peer, sa, n)
            done += 2 * n
            if done >= packets and packets > 2000:
                break
    if peer.close() != 0:
        failures.append("esp_peer has failed")
    for f in failures[:20]:
        print("# " + f)
    print("%sok 1 - %d packets, %d suites and modes, both directions (RFC 4303, 3948, 6040), seed %d" % (
        "not " if failures else "", done, len(kinds), seed))
    print("1..1")
    return 1 if failures else 0


sys.exit(main())
