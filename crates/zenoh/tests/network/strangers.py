"""A client of the engine in another language: it knows no more than docs/network.md says."""

import sys
import threading
import time
import zenoh

address = sys.argv[1]
config = zenoh.Config.from_json5('{mode: "client", connect: {endpoints: ["%s"]}, scouting: {multicast: {enabled: false}}}' % address)
with zenoh.open(config) as session:
    came = []
    subscriber = session.declare_subscriber("tidepost/t/to-python", lambda sample: came.append(sample))
    token = session.liveliness().declare_token("tidepost/@live/00/python")

    def answer(query):
        query.reply(query.key_expr, query.payload.to_bytes().lower())

    queryable = session.declare_queryable("tidepost/s/lower", answer)
    publisher = session.declare_publisher("tidepost/t/from-python")
    deadline = time.monotonic() + 60

    def publish():
        # Until somebody subscribes, nobody hears.
        while time.monotonic() < deadline:
            publisher.put("hello")
            time.sleep(0.05)

    threading.Thread(target=publish, daemon=True).start()
    while not came and time.monotonic() < deadline:
        time.sleep(0.05)
    print("received", came[0].payload.to_bytes().decode(), str(came[0].encoding))
    replies = []
    while not replies and time.monotonic() < deadline:
        replies = [reply.ok.payload.to_bytes().decode() for reply in session.get("tidepost/s/upper", payload="abc") if reply.ok]
    print("answered", replies[0])
    seen = [str(reply.ok.key_expr) for reply in session.liveliness().get("tidepost/@live/**") if reply.ok]
    print("present", any(key.endswith("/east") for key in seen))
    sys.stdout.flush()
    sys.stdin.read()
    deadline = 0
    time.sleep(0.1)
