"""A mail server in the shape of Mailpit, which keeps the token of each link."""
import base64, http.server, json, re, threading


class Mails(http.server.ThreadingHTTPServer):
    """Takes mail in the shape of Mailpit, and keeps the token of each link."""
    daemon_threads, request_queue_size, allow_reuse_address = True, 128, True

    def __init__(self, port):
        self.tokens, self.came = {}, threading.Condition()
        super().__init__(("127.0.0.1", port), Take)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def token(self, link, seconds):
        with self.came:
            self.came.wait_for(lambda: link in self.tokens, seconds)
            return self.tokens.pop(link, None)


class Take(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        mail = self.rfile.read(int(self.headers["content-length"])).decode()
        for token in re.findall(r"/l#(eyJ[\w-]+\.[\w-]+\.[\w-]+)", mail)[:1]:
            claims = token.split(".")[1]
            link = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["jti"]
            with self.server.came:
                self.server.tokens[link] = token
                self.server.came.notify_all()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "10")
        self.end_headers()
        self.wfile.write(b'{"ID":"x"}')

    def log_message(self, *_):
        pass
