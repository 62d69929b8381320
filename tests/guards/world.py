"""The world of a guard: a private service, a wire that can be cut, a browser without scripts, and the portal itself."""
import base64, hashlib, hmac, http.client, http.server, json, os, re, secrets, signal, socket, subprocess, tempfile, threading, time
import urllib.parse

SCOPES = ["links:issue", "links:approve", "links:read", "links:revoke", "sessions:redeem", "sessions:introspect",
          "audit:write", "audit:read", "consultants:read", "webhooks:manage"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def eventually(what, ask, seconds=20):
    """Asks until the answer is true; gives up with what was awaited."""
    end = time.monotonic() + seconds
    while True:
        found = ask()
        if found:
            return found
        assert time.monotonic() < end, f"in vain for {seconds} s: {what}"
        time.sleep(0.05)


class UnixLine(http.client.HTTPConnection):
    """To the path of a Unix socket."""

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.host)


def request(at, method, target, body=None, headers=None, timeout=30, host="127.0.0.1"):
    """One call to a port, or to the path of a Unix socket: status, headers (a message), text."""
    if isinstance(at, int):
        line = http.client.HTTPConnection(host, at, timeout=timeout)
    else:
        line, headers = UnixLine(at, timeout=timeout), {"Host": host, **(headers or {})}
    try:
        line.request(method, target, body, headers or {})
        answer = line.getresponse()
        return answer.status, answer.headers, answer.read().decode("utf-8", "replace")
    finally:
        line.close()


class Begun:
    """A POST whose body comes piece by piece, and perhaps never to its end."""

    def __init__(self, port, target, headers, length=None):
        self.line, self.chunked = http.client.HTTPConnection("127.0.0.1", port, timeout=20), length is None
        self.line.putrequest("POST", target)
        framing = {"Transfer-Encoding": "chunked"} if self.chunked else {"Content-Length": str(length)}
        for name, value in {"Content-Type": "application/x-www-form-urlencoded", **framing, **headers}.items():
            self.line.putheader(name, value)
        self.line.endheaders()

    def send(self, text, last=False):
        chunk = f"{len(text):x}\r\n{text}\r\n" + ("0\r\n\r\n" if last else "")
        self.line.send((chunk if self.chunked else text).encode())

    def status(self):
        """Of the answer; 413 where the portal hangs up on what is too large."""
        try:
            return self.line.getresponse().status
        except (ConnectionError, http.client.RemoteDisconnected):
            return 413
        finally:
            self.line.close()


class Service:
    """The service as a process, with a database of its own."""

    def __init__(self, binary, portal_port):
        self.folder = tempfile.mkdtemp(prefix="guards-")
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.binary = os.path.abspath(binary)
        self.process = None
        self.audience = "https://portal.example/cloud"
        callback = f"http://127.0.0.1:{portal_port}/{{tenant_id}}/cloud"
        self.env = dict(
            os.environ, MAGIC_LINK_LISTEN=f"127.0.0.1:{self.port}", MAGIC_LINK_PUBLIC_URL=self.base,
            MAGIC_LINK_DATABASE_URL=f"sqlite://{self.folder}/magic-link.db", MAGIC_LINK_MAIL__PROVIDER="preview",
            MAGIC_LINK_PORTALS__CLOUD__CALLBACK_URL=callback + "/callback", MAGIC_LINK_PORTALS__CLOUD__AUDIENCE=self.audience,
            MAGIC_LINK_WEBHOOKS__ALLOW_ADDRESSES="127.0.0.0/8")
        self.consultant = self.command("consultant", "add", "--name", "Ravi Kumar", "--email", "ravi.kumar@support.example")["id"]
        self.stranger = self.command("consultant", "add", "--name", "Mallory Fox", "--email", "mallory.fox@support.example")["id"]
        wanted = [word for scope in SCOPES for word in ("--scope", scope)]
        self.key = self.command("client", "create", "--name", "Cloud portal", "--portal", "cloud",
                                "--tenant", "acme", "--tenant", "globex", "--tenant", "acme.co-op_1", *wanted)["key"]

    def command(self, *words):
        done = subprocess.run([self.binary, *words, "--json"], env=self.env, cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, f"magic-link {' '.join(words[:2])}: {done.stderr}"
        return json.loads(done.stdout)

    def start(self):
        with open(os.path.join(self.folder, "service.log"), "ab") as log:
            self.process = subprocess.Popen([self.binary, "serve"], env=self.env, cwd=self.folder, stdout=log, stderr=log)
        eventually("the service is ready", self.is_ready)

    def keep_values(self, tenant, name):
        """The values of changes are masked on record, unless their tenant wants otherwise."""
        operator = self.command("client", "create", "--name", "Operator", "--tenant", "*", "--scope", "tenants:write")["key"]
        self.call("PUT", f"/v1/tenants/{tenant}", {"name": name, "change_values": "plain"}, key=operator)

    def is_ready(self):
        try:
            return request(self.port, "GET", "/readyz", timeout=2)[0] == 200
        except OSError:
            return False

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)
            self.process = None

    def call(self, method, path, body=None, status=(200, 201), key=None):
        headers = {"Authorization": f"Bearer {key or self.key}"}
        if body is not None:
            body, headers["Content-Type"] = json.dumps(body), "application/json"
        got, _, text = request(self.port, method, path, body, headers)
        assert got in status, f"{method} {path}: {got} {text[:300]}"
        return json.loads(text) if text else None

    def issue(self, **changes):
        """A link. Each is for another profile, because one access has one link."""
        number = secrets.token_hex(4)
        body = {"tenant_id": "acme", "portal": "cloud", "consultant_id": self.consultant, "access": "full",
                "reason": "Payroll run for November stops at step 3", "duration": {"value": 4, "unit": "hours"},
                "profile": {"id": f"emp-{number}", "name": f"Asha Rao {number}"},
                "issued_by": {"id": "emp-7", "name": "Meera Iyer", "email": "hr@acme.example"}}
        return self.call("POST", "/v1/magic-links", body | changes)

    def token(self, link):
        """The token of the newest mail about a link, as the preview mailbox shows it."""
        def find():
            for mail in json.loads(request(self.port, "GET", "/dev/mailbox.json")[2]):
                for token in re.findall(r"#(eyJ[\w-]+\.[\w-]+\.[\w-]+)", mail["text"]):
                    claims = token.split(".")[1]
                    if link["id"] == json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["jti"]:
                        return token
        return eventually(f"a mail about {link['id']}", find)

    def click(self, link):
        """What the landing page does when its button is pressed: the address of the portal, with the code."""
        headers = {"Content-Type": "application/json"}
        token = json.dumps({"token": self.token(link)})
        got, _, shown = request(self.port, "POST", "/l/preview", token, headers)
        assert got == 200 and json.loads(shown)["state"] == "ready", shown
        got, _, text = request(self.port, "POST", "/l/continue", token, headers)
        assert got == 200, text
        return json.loads(text)["redirect_url"]

    def sessions(self, link):
        return self.call("GET", f"/v1/sessions?magic_link_id={link['id']}")["items"]

    def session(self, link):
        return self.call("GET", f"/v1/sessions/{self.sessions(link)[0]['id']}")

    def reported(self, link):
        """The acts on record, in the order of their numbers."""
        events = self.call("GET", f"/v1/audit-events?magic_link_id={link['id']}&page_size=200")["items"]
        acts = [event | event["data"] for event in events if event["type"].startswith("data.")]
        return sorted(acts, key=lambda act: act["seq"])


class Wire(http.server.ThreadingHTTPServer):
    """Stands between portal and service, passes everything on, and fails as it is told."""
    daemon_threads = True

    def __init__(self, service):
        self.service, self.faults, self.seen, self.lock = service, [], [], threading.Lock()
        super().__init__(("127.0.0.1", 0), Hop)
        self.base = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """A portal that hangs up is no news."""

    def fail(self, path, how, times=1):
        """`lose`: the service acts and its answer is lost. `refuse`: it is never asked. `say`: another answer (a function of the true one, or status and text of one that is never asked for)."""
        with self.lock:
            self.faults.append([path, how, times])

    def heal(self):
        with self.lock:
            self.faults.clear()

    def fault(self, path):
        with self.lock:
            for fault in self.faults:
                if re.fullmatch(fault[0], path) and fault[2] > 0:
                    fault[2] -= 1
                    return fault[1]

    def calls(self, path):
        with self.lock:
            return [call for call in self.seen if re.fullmatch(path, call[0])]


class Hop(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.body()
        fault = self.server.fault(self.path)
        with self.server.lock:
            self.server.seen.append((self.path, dict(self.headers), body))
        if fault == "refuse":
            return self.hang_up()
        skip = {"host", "connection", "content-length", "transfer-encoding", "upgrade", "http2-settings", "keep-alive"}
        headers = {name: value for name, value in self.headers.items() if name.lower() not in skip}
        try:
            said = isinstance(fault, tuple) and (fault[0], {}, fault[1])
            status, answered, text = said or request(self.server.service.port, self.command, self.path, body, headers)
        except OSError:
            return self.hang_up()
        if fault == "lose":
            return self.hang_up()
        if callable(fault):
            status, text = fault(status, text)
        self.send_response(status)
        for name in ("Content-Type", "Retry-After"):
            if answered.get(name):
                self.send_header(name, answered[name])
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_POST

    def body(self):
        if "chunked" not in (self.headers.get("Transfer-Encoding") or ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def hang_up(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


class Portal:
    """The portal under test, as a process."""

    def __init__(self, command, port, service_url, key, secret, listen=None, host="127.0.0.1", public_url=None):
        self.port, self.host, self.base = port, host, f"http://127.0.0.1:{port}"
        self.log = tempfile.NamedTemporaryFile(prefix="portal-", suffix=".log", delete=False)
        env = dict(os.environ, PORTAL_LISTEN=listen or f"127.0.0.1:{port}", PORTAL_PUBLIC_URL=public_url or self.base, PORTAL_SERVICE_URL=service_url,
                   PORTAL_CLOUD_KEY=key, PORTAL_ESS_KEY=key, PORTAL_WEBHOOK_SECRET=secret)
        self.process = subprocess.Popen(command, shell=True, env=env, stdout=self.log, stderr=self.log, start_new_session=True)
        eventually("the portal listens", self.is_up, 60)

    def is_up(self):
        assert self.process.poll() is None, "the portal ended: " + open(self.log.name).read()[-2000:]
        try:
            return request(self.port, "GET", "/acme/cloud/", timeout=5, host=self.host)[0] < 500
        except OSError:
            return False

    def stop(self):
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(20)
        os.unlink(self.log.name)


class Answer:
    def __init__(self, status, headers, text):
        self.status, self.headers, self.text = status, headers, text
        self.location = headers.get("Location")
        found = re.search(r'<body data-page="([^"]*)"', text)
        self.page = found and found[1]

    def header(self, name):
        return (self.headers.get(name) or "").lower()

    def __repr__(self):
        return f"{self.status} {self.page} {self.location or ''} {self.text[:400] if self.status >= 400 else ''}"


class Browser:
    """Keeps cookies by path and says where a request comes from, as browsers do."""

    def __init__(self, portal):
        self.portal, self.cookies, self.set = portal, {}, {}

    def headers(self, target, site="same-origin"):
        sent = [f"{name}={value}" for (name, at), value in self.cookies.items() if target.startswith(at)]
        return {"User-Agent": "Guards/1.0", "Sec-Fetch-Site": site, "Cookie": "; ".join(sent)}

    def go(self, target, method="GET", form=None, site="same-origin", **more):
        target = target.removeprefix(self.portal.base)
        headers = self.headers(target, site) | {name.replace("_", "-"): value for name, value in more.items()}
        if method == "POST":
            headers["Origin"] = self.portal.base if site == "same-origin" else "https://evil.example"
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        status, got, text = request(self.portal.port, method, target, urllib.parse.urlencode(form) if form is not None else None,
                                    {name: value for name, value in headers.items() if value})
        self.set = {}
        for line in got.get_all("Set-Cookie") or []:
            words = [word.strip() for word in line.split(";")]
            name, value = words[0].split("=", 1)
            flags = {key.lower(): rest for key, _, rest in (word.partition("=") for word in words[1:])}
            at = flags.get("path", "/")
            if flags.get("max-age") == "0" or not value or "1970" in flags.get("expires", ""):
                self.cookies.pop((name, at), None)
            else:
                self.cookies[(name, at)] = value
                self.set[name] = (value, flags)
        return Answer(status, got, text)

    def post(self, target, site="same-origin", **form):
        return self.go(target, "POST", form, site)

    def question(self, page):
        return re.search(r'name="question" value="([^"]+)"', page.text)[1]

    def arrive(self, address):
        """All the way in."""
        callback = self.go(address, site="cross-site")
        assert callback.status == 303, callback
        page = self.go(callback.location)
        assert page.status == 200 and page.page == "arrival", page
        done = self.post(callback.location, question=self.question(page), answer="yes")
        assert done.status == 303, done
        return done.location


def signed(secret, body, at=None, key=None, message="whm_01kaq3v9e8fwmvd2x7n0c5hc2z"):
    """Headers of a webhook message (Standard Webhooks 1.0)."""
    at = int(time.time()) if at is None else at
    raw = base64.b64decode((key or secret).removeprefix("whsec_"))
    mac = base64.b64encode(hmac.new(raw, f"{message}.{at}.{body}".encode(), hashlib.sha256).digest()).decode()
    return {"webhook-id": message, "webhook-timestamp": str(at), "webhook-signature": f"v1,{mac}",
            "Content-Type": "application/cloudevents+json"}
