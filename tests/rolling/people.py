"""People at work during an upgrade: what was acknowledged is remembered, and asked about at either copy."""
import base64, collections, datetime, json, os, random, secrets, threading, time, urllib.parse, uuid, zlib
from concurrent.futures import ThreadPoolExecutor

import servers
from copies import FIRST_PORT, HOOKS, LEAVES, SINK, Balancer, Copy
from hooks import Hooks
from mails import Mails

TENANT = "acme"
# Lives of links, introspections and lists that begin in a second.
LIVES, READS, LISTS = 4, 15, 3
SCOPES = ("links:issue", "links:read", "links:revoke", "sessions:redeem", "sessions:introspect", "audit:write", "audit:read",
          "webhooks:manage")
LISTED = (
    f"/v1/magic-links?tenant_id={TENANT}&page_size=20", f"/v1/magic-links?tenant_id={TENANT}&state=active,scheduled&page_size=5",
    f"/v1/sessions?tenant_id={TENANT}&page_size=20", f"/v1/audit-events?tenant_id={TENANT}&page_size=20",
    f"/v1/audit-events?tenant_id={TENANT}&type=session.opened&page_size=10", f"/v1/mail-deliveries?tenant_id={TENANT}&page_size=20",
    "/v1/revocations?page_size=5", f"/v1/audit-log/{TENANT}")
# What an operator looks at: the log of the system, too, in which a newer version may tell of what an older one does not know.
OPERATED = ("/v1/audit-events?tenant_id=_system&page_size=50", "/v1/consultants?page_size=5", "/v1/clients?page_size=5", "/v1/tenants")


# Messages whose audit event has another name.
RECORDED_AS = {"magic_link.opened": "magic_link.continued"}


class Session:
    """One that was acknowledged, and what was done about its end."""

    def __init__(self, opened):
        self.id, self.token = opened["id"], opened["access_token"]
        claims = self.token.split(".")[1]
        self.status = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["status"]["status_list"]
        self.end_began = self.end_answered = None


class People:
    """Lives of links, introspections and lists, all the time; webhook messages and mails arrive."""

    def __init__(self, program, folder, database, migrator):
        self.folder, self.migrator = folder, migrator
        # Every key is one that each of the programs knows: an older one refuses to start with one that it does not know.
        self.env = {
            "PATH": os.environ["PATH"], "MAGIC_LINK_DATABASE_URL": database,
            "MAGIC_LINK_PUBLIC_URL": f"http://127.0.0.1:{FIRST_PORT}", "MAGIC_LINK_MIGRATE_AT_START": "false",
            "MAGIC_LINK_MASTER_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            "MAGIC_LINK_MAIL__PROVIDER": "mailpit", "MAGIC_LINK_MAIL__MAILPIT_URL": f"http://127.0.0.1:{SINK}",
            "MAGIC_LINK_MAIL__FROM": "no-reply@links.rolling.in", "MAGIC_LINK_LOG__LEVEL": "info",
            "MAGIC_LINK_WEBHOOKS__ALLOW_ADDRESSES": "127.0.0.0/8", "MAGIC_LINK_SHUTDOWN_DELAY_SECONDS": str(LEAVES),
            "MAGIC_LINK_AUDIT__CHECKPOINT_FOLDER": os.path.join(folder, "checkpoints"),
            "MAGIC_LINK_AUDIT__CHECKPOINT_MINUTES": "1", "MAGIC_LINK_LIMITS__PUBLIC_PER_MINUTE": "100000"}
        for limit in ("MAILS_PER_CLIENT_MINUTE", "MAILS_PER_TENANT_DAY", "MAILS_PER_RECIPIENT_HOUR"):
            self.env[f"MAGIC_LINK_LIMITS__{limit}"] = "1000000"
        os.makedirs(os.path.join(folder, "checkpoints"), exist_ok=True)
        self.migrate(program)
        self.consultant = json.loads(self.command(program, "consultant", "add", "--json", "--name", "Ravi Kumar",
                                                  "--email", "ravi.kumar@support.rolling.in"))["id"]
        self.headers = self.client(program, "Portal", TENANT, *SCOPES)
        self.operator = self.client(program, "Operator", "*", "audit:read", "consultants:read", "admin", "tenants:read")
        self.mails, self.hooks = Mails(SINK), Hooks(HOOKS)
        self.copies = [Copy(number, self.env, folder) for number in range(2)]
        self.balancer = Balancer(self.copies)
        self.hooks.strict = lambda: all(copy.program is None or copy.program.promises("order of ends") for copy in self.copies)
        self.lock = threading.Lock()
        # What was acknowledged: kind and id.
        self.acknowledged, self.lives = set(), 0
        self.live, self.ended = collections.deque(maxlen=300), collections.deque(maxlen=5000)
        self.across = collections.Counter()
        self.pools = []

    def command(self, program, *words, env=None):
        return servers.run(program.path, *words, env=env or self.env, cwd=self.folder)

    def migrate(self, program):
        """As the docs ask: one role owns the tables, another one runs the service. What was applied."""
        env = self.env | {"MAGIC_LINK_DATABASE_URL": self.migrator}
        done = self.command(program, "migrate", "--json", "--grant-to", "magic_link_run", env=env)
        return json.loads(done.strip().split("\n")[-1])["applied"]

    def client(self, program, name, tenant, *scopes):
        wanted = [word for scope in scopes for word in ("--scope", scope)]
        created = json.loads(self.command(program, "client", "create", "--json", "--name", name, "--tenant", tenant, *wanted))
        return {"Authorization": f"Bearer {created['key']}"}

    def begin(self):
        """An endpoint that hears everything, and people."""
        made = self.post("/v1/webhook-endpoints", {"url": f"http://127.0.0.1:{HOOKS}/hook"}, keyed=True)
        self.hooks.secret = made["secret"]
        for what, rate, most in ((self.life, LIVES, 64), (self.read, READS, 32), (self.list, LISTS, 8)):
            pool, at_work = ThreadPoolExecutor(most), threading.Semaphore(most)
            self.pools.append(pool)
            threading.Thread(target=self.ticks, args=(what, rate, pool, at_work), daemon=True).start()

    def ticks(self, what, rate, pool, at_work):
        """Begins at a steady rate, whether answers come or not."""
        def once():
            try:
                what()
            except Exception as error:
                self.balancer.wrong.append(f"{what.__name__}: {error!r}"[:300])
            finally:
                at_work.release()
        while not self.balancer.over.wait(random.uniform(0.7, 1.3) / rate):
            if at_work.acquire(blocking=False) and not self.balancer.over.is_set():
                pool.submit(once)

    def post(self, path, body=None, keyed=False, form=None, write=True, key=None, first=None, headers=None):
        headers = dict(headers or self.headers)
        if form:
            body, headers["Content-Type"] = urllib.parse.urlencode(form), "application/x-www-form-urlencoded"
        elif body is not None:
            body, headers["Content-Type"] = json.dumps(body), "application/json"
        if keyed or key:
            headers["Idempotency-Key"] = key or uuid.uuid4().hex
        return self.balancer.call("POST", path, body, headers, write=write, first=first)

    def get(self, path, headers=None, first=None):
        return self.balancer.call("GET", path, None, headers or self.headers, first=first)

    def remember(self, what, name):
        with self.lock:
            self.acknowledged.add((what, name))

    def expect(self, holds, what):
        if not holds:
            self.balancer.wrong.append(f"{what} ({self.balancer.phase['name']})")

    def other(self, answer):
        return self.copies[1 - answer.copy.number]

    def twice(self, path, body):
        """Creates with a key, and asks the other copy once more with the same: it has to tell of the same."""
        key = uuid.uuid4().hex
        first = self.post(path, body, key=key)
        if first is None:
            return None
        again = self.post(path, body, key=key, first=self.other(first))
        if again is not None:
            self.expect(again["id"] == first["id"], f"{path}: a repeat made another one")
            if again.copy.program is not first.copy.program:
                self.across["keys repeated at a copy of the other version"] += 1
        return first

    def life(self):
        """A link is issued, pressed, redeemed, looked at, reported about, and ended in one of five ways."""
        with self.lock:
            self.lives += 1
        ticket = "SUP-" + uuid.uuid4().hex[:12]
        link = self.twice("/v1/magic-links", {
            "tenant_id": TENANT, "portal": "cloud", "consultant_id": self.consultant, "access": "full", "ticket": ticket,
            "reason": "Payroll run stops at step 3", "duration": {"value": 4, "unit": "hours"},
            "profile": {"id": "emp-" + uuid.uuid4().hex, "name": "Asha Rao"},
            "issued_by": {"id": "emp-7", "name": "Meera Iyer", "email": "hr@acme.rolling.in"}})
        if link is None:
            return
        self.remember("issued", link["id"])
        seen = self.get(f"/v1/magic-links/{link['id']}", first=self.other(link))
        self.expect(seen and seen["state"] == "active", f"{link['id']} was issued, and is not active")
        token = self.mails.token(link["id"], 60)
        if not token:
            return self.expect(False, f"no mail about {link['id']} for a minute")
        self.post("/l/preview", {"token": token}, write=False)
        going = self.post("/l/continue", {"token": token})
        opened = going and self.twice("/v1/sessions", {"token": going["redirect_url"].split("code=")[1]})
        if not opened:
            return
        self.remember("opened", opened["id"])
        session = Session(opened)
        with self.lock:
            self.live.append(session)
        self.introspect(session, first=self.other(opened))
        self.report(opened)
        if random.random() < 0.3:
            more = {"duration": {"value": 1, "unit": "hours"}, "reason": "It takes longer than we thought",
                    "extended_by": {"id": "emp-7", "name": "Meera Iyer"}}
            extended = self.twice(f"/v1/magic-links/{link['id']}/extend", more)
            if extended:
                self.expect(extended["expires_at"] > link["expires_at"], f"{link['id']} was extended, and ends as before")
                self.remember("extended", link["id"])
        time.sleep(random.uniform(0, 3))
        self.end(link["id"], ticket, session)

    def report(self, opened):
        """Three acts, of which two are told twice."""
        now = datetime.datetime.now(datetime.timezone.utc).isoformat()
        acts = [{"seq": seq, "source": "portal", "kind": "view", "occurred_at": now, "action": "employee.viewed",
                 "resource_type": "employee", "resource_id": "emp-9", "principal_id": "emp-9"} for seq in (1, 2, 3)]
        path = f"/v1/sessions/{opened['id']}/events"
        first = self.post(path, {"events": acts[:2]})
        told = first and self.post(path, {"events": acts}, first=self.other(first))
        if told:
            self.expect(told["recorded"] + told["repeated"] == 3, f"{path}: {told.body}")
            for act in acts:
                self.remember("reported", f"{opened['id']} {act['seq']}")

    def end(self, link, ticket, session):
        session.end_began = time.monotonic()
        way = random.choice(("revoked", "ended", "done", "token", "order"))
        words = {"reason": "The work is done"}
        if way == "revoked":
            done = self.post(f"/v1/magic-links/{link}/revoke", words)
        elif way == "ended":
            done = self.post(f"/v1/sessions/{session.id}/revoke", words)
        elif way == "done":
            done = self.post(f"/v1/sessions/{session.id}/end", {"consultant_done": True, "sources": {"portal": 3}})
        elif way == "token":
            done = self.post("/v1/revoke", form={"token": session.token})
        else:
            done = self.twice("/v1/revocations", words | {"tenant_id": TENANT, "ticket": ticket})
        if done is None:
            return
        session.end_answered = done.at
        self.remember("revoked" if way in ("revoked", "order") else "ended", link if way in ("revoked", "order") else session.id)
        with self.lock:
            self.ended.append(session)
        for copy in (self.other(done), done.copy):
            self.introspect(session, first=copy)
        seen = self.get(f"/v1/magic-links/{link}", first=self.other(done))
        expected = "revoked" if way in ("revoked", "order") else "active"
        self.expect(seen and seen["state"] == expected, f"{link} ended by {way} is {seen and seen['state']}")
        if random.random() < 0.1:
            self.get(f"/v1/magic-links/{link}/evidence")

    def introspect(self, session, first=None):
        began_alive = session.end_began is None
        answer = self.post("/v1/introspect", form={"token": session.token}, write=False, first=first)
        if answer is None:
            return
        about = f"by {answer.copy.program}, {self.balancer.phase['name']}"
        if answer["active"] and session.end_answered and session.end_answered < answer.asked:
            self.balancer.stale.append(f"active {answer.asked - session.end_answered:.3f} s after its end was answered, {about}")
        if not answer["active"] and began_alive and session.end_began is None:
            self.balancer.wrong.append(f"a session that was opened and not ended is not active, {about}")

    def read(self):
        """Asks about a session, the newest first."""
        with self.lock:
            choice = random.choice((self.live, self.ended))
            session = choice[-1 - min(int(random.expovariate(0.1)), len(choice) - 1)] if choice else None
        if session:
            self.introspect(session)

    def list(self):
        """A page, and the next one from the other copy."""
        path = random.choice(LISTED + OPERATED)
        headers = self.operator if path in OPERATED else self.headers
        page = self.get(path, headers)
        if page and "next_cursor" in page.body:
            more = self.get(f"{path}&cursor={urllib.parse.quote(page['next_cursor'])}", headers, first=self.other(page))
            if more:
                ids = [item["id"] for item in page["items"]]
                self.expect(not any(item["id"] in ids for item in more["items"]), f"{path}: a page has what the one before had")
                if more.copy.program is not page.copy.program:
                    self.across["lists continued at a copy of the other version"] += 1

    def pause(self):
        """No new life begins; those that began come to their end."""
        self.balancer.over.set()
        for pool in self.pools:
            pool.shutdown(wait=True)

    def lost(self, host):
        """Acknowledged acts that the database, or its audit log, does not have."""
        queries = {
            "issued": ("SELECT id FROM magic_links", "magic_link_id", "magic_link.issued"),
            "opened": ("SELECT id FROM sessions", "session_id", "session.opened"),
            "revoked": ("SELECT id FROM magic_links WHERE revoked_at IS NOT NULL", "magic_link_id", "magic_link.revoked"),
            "ended": ("SELECT id FROM sessions WHERE ended_at IS NOT NULL", "session_id", "session.ended"),
            "extended": (None, "magic_link_id", "magic_link.extended"),
            "reported": (None, "session_id || ' ' || seq", "data.viewed")}
        missing = []
        for what, (rows, column, event) in queries.items():
            names = {name for kind, name in self.acknowledged if kind == what}
            ask = f"SELECT {column} FROM audit_events WHERE event_type = '{event}'"
            logged = collections.Counter(row[0] for row in servers.ask(host, ask, "magic_link", seconds=60))
            missing += [f"{what} {name}: not in the audit log" for name in names - set(logged)]
            missing += [f"{what} {name}: {logged[name]} times in the audit log" for name in names if logged[name] > 1 and what in ("issued", "opened", "reported")]
            if rows:
                there = {row[0] for row in servers.ask(host, rows, "magic_link", seconds=60)}
                missing += [f"{what} {name}: no row" for name in names - there]
        return missing

    def messages(self, host):
        """Waits until every message was sent, and judges them."""
        waiting = ("SELECT (SELECT count(*) FROM webhook_events) + (SELECT count(*) FROM webhook_deliveries "
                   "WHERE state NOT IN ('delivered', 'cancelled', 'failed'))")
        try:
            servers.eventually("every message is sent", lambda: servers.ask(host, waiting, "magic_link")[0][0] == 0, 120)
        except RuntimeError:
            pass
        told = f"""SELECT id, event_type FROM audit_events WHERE tenant_id = '{TENANT}' AND (event_type LIKE 'magic_link.%'
            OR event_type LIKE 'session.%' OR event_type = 'audit.gap')"""
        recorded = dict(servers.ask(host, told, "magic_link", seconds=60))
        kinds = {RECORDED_AS.get(message["type"], message["type"]) for message in self.hooks.messages}
        # Of some events nobody is told, such as that a mail was sent: a kind counts once one of it came.
        return self.hooks.judge({event: kind for event, kind in recorded.items() if kind in kinds}) | {"kinds": sorted(kinds)}

    def bits(self):
        """Sessions that ended, and whose bit in their status list is not set, at either copy."""
        wrong = []
        for copy in self.copies:
            lists = {}
            for session in self.ended:
                path = urllib.parse.urlparse(session.status["uri"]).path
                if path not in lists:
                    status, text, _ = copy.call("GET", path, None, {"Accept": "application/statuslist+jwt"})
                    claims = text.decode().split(".")[1]
                    packed = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["status_list"]
                    lists[path] = packed["bits"], zlib.decompress(base64.urlsafe_b64decode(packed["lst"] + "=" * (-len(packed["lst"]) % 4)))
                bits, values = lists[path]
                at = session.status["idx"] * bits
                if not values[at // 8] >> at % 8 & (1 << bits) - 1:
                    wrong.append(f"the bit of {session.id} is not set, says {copy.program}")
        return wrong

    def verify(self, program, name, export=None):
        """What `audit verify` of this program says about an export, beside a checkpoint from before; the export is its own, or
        is got by a call."""
        key = self.command(program, "audit", "verifier-key", "--tenant", TENANT).strip()
        checkpoint, file = (os.path.join(self.folder, f"{name}.{what}") for what in ("checkpoint", "export"))
        with open(checkpoint, "w") as out:
            out.write(self.command(program, "audit", "checkpoint", "--tenant", TENANT))
        with open(file, "w") as out:
            out.write(export() if export else self.command(program, "audit", "export", "--tenant", TENANT))
        return self.command(program, "audit", "verify", "--key", key, "--checkpoint", checkpoint, file).strip().replace("\n", " · ")

    def end_all(self):
        self.balancer.over.set()
        for copy in self.copies:
            if copy.process and copy.process.poll() is None:
                copy.process.kill()
                copy.process.wait()
        for server in (self.mails, self.hooks):
            server.shutdown()
            server.server_close()
