"""A wire between two hosts on which packets overtake each other: each takes a time of its own, 0 to 10 ms, the same in every run.

Runs in the host at one end. Descriptor 3 is /dev/net/tun, opened in the host at the other end: a device belongs to the host in which it
was opened. Arguments: the interface there, the interface here, and a file for the number of packets that were overtaken.
"""

import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
PACKET_BYTES_MAX = 1 << 16

there, here, count = sys.argv[1:]
ends = [3, os.open("/dev/net/tun", os.O_RDWR)]
for end, interface in zip(ends, (there, here)):
    fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH22x", interface.encode(), IFF_TUN | IFF_NO_PI))
    os.set_blocking(end, False)
counted = os.open(count, os.O_WRONLY | os.O_CREAT, 0o600)
chance = random.Random(1)
# Packets on their way: when they are due, their number, where to, and what.
waiting = []
number = 0
# The last number that came out, at each end.
last = {end: 0 for end in ends}
overtaken = 0
while True:
    patience = max(0, waiting[0][0] - time.monotonic()) if waiting else None
    for end in select.select(ends, [], [], patience)[0]:
        try:
            packet = os.read(end, PACKET_BYTES_MAX)
        except OSError:
            continue
        number += 1
        due = time.monotonic() + chance.uniform(0, 0.01)
        heapq.heappush(waiting, (due, number, ends[1 - ends.index(end)], packet))
    while waiting and waiting[0][0] <= time.monotonic():
        _, sent, end, packet = heapq.heappop(waiting)
        try:
            os.write(end, packet)
        except OSError:
            # What an interface that is down does not take is lost, as on any wire.
            continue
        if sent < last[end]:
            overtaken += 1
            os.pwrite(counted, b"%d" % overtaken, 0)
        last[end] = max(last[end], sent)
