#!/usr/bin/python3
"""Sends frames protected with a key by scapy: macsec_send.py IFACE SCI AN SAK PN NUMBER"""
import socket
import sys
import warnings

warnings.filterwarnings('ignore')
from scapy.contrib.macsec import MACsecSA  # noqa: E402
from scapy.all import Ether, IP, UDP, Raw, raw  # noqa: E402

iface, sci, an, sak, pn, number = sys.argv[1], bytes.fromhex(sys.argv[2]), *sys.argv[3:7]
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind((iface, 0))
for i in range(int(number)):
    sa = MACsecSA(sci=sci, an=int(an), pn=int(pn) + i, key=bytes.fromhex(sak), icvlen=16, encrypt=1, send_sci=1)
    frame = Ether(src='02:00:00:00:00:77', dst='02:00:00:00:00:78') / IP(src='192.0.2.77', dst='192.0.2.78') / UDP() / Raw(b'x' * 80)
    s.send(raw(sa.encrypt(sa.encap(frame))))
