#!/usr/bin/python3
"""Attacks on a link with MACsec, from its middle: takes a frame that goes out by IFACE, and sends what an attacker can
make of it, ten times each.  macsec_inject.py IFACE
"""
import socket
import struct
import sys
import time

s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind((sys.argv[1], 0))
s.settimeout(10)
end = time.time() + 10
while True:
    frame, where = s.recvfrom(4000)
    # On its way to the DPU, and not one of its own.
    if where[2] == 4 and frame[12:14] == b'\x88\xe5' and len(frame) > 100:
        break
    if time.time() > end:
        sys.exit('no frame to work on')
pn = struct.unpack('!I', frame[16:20])[0]


def with_pn(n):
    return frame[:16] + struct.pack('!I', n & 0xffffffff) + frame[20:]


def flip(f, at, bit=1):
    return f[:at] + bytes([f[at] ^ bit]) + f[at + 1:]


attacks = [
    frame,                                                       # replayed
    with_pn(1),                                                  # late
    with_pn(pn + 5000),                                          # not valid: the number is authenticated
    flip(with_pn(pn + 6000), len(frame) - 20),                   # not valid: data
    flip(flip(frame, 14, 1), 14, 2),                             # no SA under that AN
    flip(frame, 25),                                             # unknown SCI
    frame[:36],                                                  # bad tag: cut short
    flip(frame, 14, 0x80),                                       # bad tag: version
    frame[:12] + b'\x08\x00' + frame[28:90],                     # in clear
    frame[:12] + b'\x08\x06' + frame[28:70],                     # in clear
]
s.send(frame)
for a in attacks:
    for _ in range(10):
        s.send(a)
    time.sleep(.05)
