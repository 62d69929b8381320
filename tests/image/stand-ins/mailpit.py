"""Stands in for Mailpit: takes mail at /api/v1/send, and shows it where Mailpit does."""
import http.server, json, signal, sys

mails = []


class Mailpit(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        mails.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.answer({"ID": str(len(mails))})

    def do_GET(self):
        if self.path == "/api/v1/messages":
            to = [[{"Address": person["Email"]} for person in mail["To"]] for mail in mails]
            self.answer({"total": len(mails), "messages": [{"ID": str(number + 1), "To": whom} for number, whom in enumerate(to)]})
        else:
            self.answer(mails[int(self.path.removeprefix("/api/v1/message/")) - 1])

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())


# Process 1 of a container has no answer to signals but its own.
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
http.server.ThreadingHTTPServer(("", 8025), Mailpit).serve_forever()
