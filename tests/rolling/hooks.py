"""Who receives the webhook messages, and whether all of them came, in order."""
import base64, collections, hashlib, hmac, http.server, json, threading

OVERTAKING = ("magic_link.revoked", "magic_link.replaced", "session.ended")


class Hooks(http.server.ThreadingHTTPServer):
    """Takes each message at once."""
    daemon_threads, request_queue_size, allow_reuse_address = True, 128, True

    def __init__(self, port):
        self.secret, self.messages, self.forged, self.lock = None, [], 0, threading.Lock()
        # Whether each version that may send just now promises the order of ends among themselves.
        self.strict = lambda: True
        super().__init__(("127.0.0.1", port), Take)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def judge(self, expected):
        """What is missing, out of order and repeated; `expected` are ids of audit events, with their types."""
        with self.lock:
            messages = list(self.messages)
        came = collections.Counter(message["id"] for message in messages)
        missing = [f"no message about {kind} {event}" for event, kind in expected.items() if event not in came]
        unknown = [f"a message about {event}, which nobody recorded" for event in came if event not in expected]
        seen, newest, disorder, unpromised = set(), {}, [], 0
        for message in messages:
            if message["id"] in seen:
                continue
            seen.add(message["id"])
            lane = (message["data"].get("magic_link_id"), message["type"] in OVERTAKING)
            if message["sequence"] <= newest.get(lane, "") and (message["strict"] or not lane[1]):
                disorder.append(f"{message['type']} {message['id']} came after one with a higher sequence")
            elif message["sequence"] <= newest.get(lane, ""):
                unpromised += 1
            newest[lane] = max(message["sequence"], newest.get(lane, ""))
        return {"came": len(came), "repeated": sum(came.values()) - len(came), "forged": self.forged,
                "missing": missing + unknown, "disorder": disorder, "unpromised": unpromised}


class Take(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        signed = b".".join((self.headers["webhook-id"].encode(), self.headers["webhook-timestamp"].encode(), body))
        key = base64.b64decode(self.server.secret.removeprefix("whsec_"))
        mine = "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
        with self.server.lock:
            self.server.messages.append(json.loads(body) | {"strict": self.server.strict()})
            self.server.forged += mine not in self.headers["webhook-signature"].split()
        self.send_response(204)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass
