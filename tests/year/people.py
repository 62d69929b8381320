"""Fifty tenants of one portal, and what a day brings: links, their mails, visits, reports, ends."""
import base64, itertools, json, os, random, resource, secrets, time, urllib.parse, uuid
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import servers
from hooks import Hooks
from load import FIRST_PORT, SINK, Copy
from mails import Mails

HOOKS, CALLERS, CONSULTANTS = 6241, 4, 25
# The hours at which a tenant's people work, UTC; each has its share of a day's links.
HOURS = (4, 6, 9, 11)
# Of each day so many links are issued, and tokens asked about, by a lone caller while nothing else is asked for.
LONE_ISSUES, LONE_CHECKS = 10, 30
# How long windows are, and how often: hours of a day, days, weeks.
WINDOWS = [{"value": 4, "unit": "hours"}] * 12 + [{"value": 1, "unit": "days"}] * 5 + [{"value": 3, "unit": "days"}] * 2 + [{"value": 2, "unit": "weeks"}]
PORTAL = ("links:issue", "links:read", "links:revoke", "sessions:redeem", "sessions:introspect", "audit:write", "audit:read", "webhooks:manage")
OPERATOR = ("consultants:write", "tenants:write", "audit:manage")


class People:
    """The portal's back end, an operator, and the service's one copy."""

    def __init__(self, binary, folder, address, retention):
        self.binary, self.folder, self.address = binary, folder, address
        os.makedirs(os.path.join(folder, "checkpoints"))
        self.env = {
            "PATH": os.environ["PATH"], "MAGIC_LINK_SANDBOX": "true", "MAGIC_LINK_DATABASE_URL": self.of("magic_link"),
            "MAGIC_LINK_MASTER_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            "MAGIC_LINK_PUBLIC_URL": f"http://127.0.0.1:{FIRST_PORT}", "MAGIC_LINK_MAIL__FROM": "no-reply@links.year.in",
            "MAGIC_LINK_MAIL__PROVIDER": "mailpit", "MAGIC_LINK_MAIL__MAILPIT_URL": f"http://127.0.0.1:{SINK}",
            "MAGIC_LINK_WEBHOOKS__ALLOW_ADDRESSES": "127.0.0.0/8", "MAGIC_LINK_LIMITS__PUBLIC_PER_MINUTE": "100000",
            "MAGIC_LINK_AUDIT__CHECKPOINT_FOLDER": os.path.join(folder, "checkpoints"),
            # As the page of the operators has it: the service has no right to erase, a command of another role does.
            "MAGIC_LINK_AUDIT__ERASE_IN_SERVICE": "false"}
        for limit in ("MAILS_PER_CLIENT_MINUTE", "MAILS_PER_TENANT_DAY", "MAILS_PER_RECIPIENT_HOUR"):
            self.env[f"MAGIC_LINK_LIMITS__{limit}"] = "1000000"
        self.command("sandbox", "init")
        self.command("migrate", "--grant-to", "magic_link_run", "--no-erasing")
        self.command("migrate", "--grant-to", "magic_link_janitor")
        self.env["MAGIC_LINK_DATABASE_URL"] = self.of("magic_link_run")
        self.operator, self.portal = self.client("Operations", OPERATOR), self.client("Cloud portal", PORTAL, "--portal", "cloud")
        self.mails, self.hooks, self.messages = Mails(SINK), Hooks(HOOKS), 0
        self.copy = Copy(0, binary, self.env, folder)
        self.pool, self.numbers, self.wrong = ThreadPoolExecutor(CALLERS), itertools.count(1), []
        # Beside both a measure of the machine, which others may use, too: one row that is committed, and an empty answer.
        self.waits = {"issue": [], "commit": [], "check": [], "empty": []}
        servers.ask(servers.HOSTS[0], "CREATE TABLE beside (at timestamptz)")
        self.beside = psycopg2.connect(servers.address(servers.HOSTS[0]))
        self.beside.autocommit = True
        self.settle_down(retention)

    def of(self, role):
        return f"postgres://{role}@{self.address}"

    def command(self, *words, **more):
        return servers.run(self.binary, *words, env=self.env | more, cwd=self.folder)

    def client(self, name, scopes, *more):
        wanted = [word for scope in scopes for word in ("--scope", scope)]
        made = json.loads(self.command("client", "create", "--json", "--name", name, "--tenant", "*", *wanted, *more))
        return {"Authorization": f"Bearer {made['key']}"}

    def settle_down(self, retention):
        """Tenants, of which the first has a fifth of all links, consultants, and an endpoint that hears everything."""
        self.tenants = [f"tenant-{number:02}" for number in range(1, 51)]
        self.weights = [1 / number for number in range(1, 51)]
        for tenant in self.tenants:
            contacts = [{"name": "Data Protection", "email": f"dpo@{tenant}.year.in"}]
            self.call("PUT", f"/v1/tenants/{tenant}", {
                "name": tenant.title(), "time_zone": "Asia/Kolkata", "contacts": contacts, "retention_days": retention}, who=self.operator)
        self.consultants = [self.call("POST", "/v1/consultants", {
            "name": f"Consultant {number}", "email": f"consultant-{number}@support.year.in"}, who=self.operator)["id"] for number in range(CONSULTANTS)]
        self.hooks.secret = self.call("POST", "/v1/webhook-endpoints", {"url": f"http://127.0.0.1:{HOOKS}/hook"})["secret"]

    def ask(self, query, seconds=600):
        return servers.ask(servers.HOSTS[0], query, "magic_link", seconds=seconds)

    def call(self, method, path, body=None, who=None, form=None):
        """The answer; whatever is no 2xx is a fault of the year."""
        headers = dict(who or self.portal)
        if form:
            body, headers["Content-Type"] = urllib.parse.urlencode(form), "application/x-www-form-urlencoded"
        elif body is not None:
            body, headers["Content-Type"] = json.dumps(body), "application/json"
            if method == "POST" and path.startswith("/v1/"):
                headers["Idempotency-Key"] = uuid.uuid4().hex
        status, answer = self.copy.call(method, path, body, headers)
        if not 200 <= status < 300:
            raise RuntimeError(f"{method} {path}: {status} {answer.get('code')} {answer.get('detail', '')}")
        return answer

    def timed(self, what, act, *words):
        began = time.perf_counter()
        done = act(*words)
        self.waits[what].append(time.perf_counter() - began)
        return done

    def move(self, to):
        """What `POST /v1/sandbox/clock` does, which moves by 400 days at most."""
        self.ask(f"UPDATE service_state SET sandbox_moved_micros = 1e6 * extract(epoch FROM '{to.isoformat()}' - clock_timestamp())")
        self.now = to

    def issue(self):
        """A link for somebody whose every name and text can be found again in the whole database."""
        tenant, number = random.choices(self.tenants, self.weights)[0], next(self.numbers)
        return self.call("POST", "/v1/magic-links", {
            "tenant_id": tenant, "portal": "cloud", "consultant_id": random.choice(self.consultants), "duration": random.choice(WINDOWS),
            "reason": f"Payroll run stops at step 3 in case-{number}.", "ticket": f"case-{number}.",
            "profile": {"id": f"emp-{number}", "name": f"Asha Rao case-{number}.", "email": f"case-{number}.@{tenant}.year.in"},
            "issued_by": {"id": "emp-7", "name": f"Meera Iyer case-{number}.", "email": f"hr@{tenant}.year.in"}})

    def visit(self, link):
        """The mail comes, the button is pressed, the session opened."""
        token = self.mails.token(link["id"], 60)
        going = self.call("POST", "/l/continue", {"token": token})
        return self.call("POST", "/v1/sessions", {
            "token": going["redirect_url"].split("code=")[1],
            "visitor": {"address": "203.0.113.7", "user_agent": f"Mozilla/5.0 {link['ticket']}"}})

    def check(self, session):
        answer = self.call("POST", "/v1/introspect", form={"token": session["access_token"]})
        if not answer["active"]:
            raise RuntimeError(f"{session['id']} is live, and not active")

    def report(self, session, first=1, count=10):
        """Views and, every third time, a change of two fields."""
        acts = []
        for seq in range(first, first + count):
            employee = f"emp-{random.randrange(2000)}"
            act = {"seq": seq, "source": "portal", "kind": "view", "occurred_at": self.now.isoformat(), "action": "employee.viewed",
                   "resource_type": "employee", "resource_id": employee, "principal_id": employee}
            if seq % 3 == 0:
                act |= {"kind": "change", "action": "employee.salary.updated", "changes": [
                    {"field": "basic", "before": "50000", "after": "52000"}, {"field": "allowance", "before": "8000", "after": "8500"}]}
            acts.append(act)
        self.call("POST", f"/v1/sessions/{session['id']}/events", {"events": acts})

    def end(self, session):
        """The consultant is done, or the admin ends it, or nobody does."""
        way = random.random()
        if way < 0.7:
            self.done(session)
        elif way < 0.85:
            self.call("POST", f"/v1/magic-links/{session['magic_link_id']}/revoke", {"reason": f"The work is done, says {session['ticket']}"})

    def done(self, session):
        self.call("POST", f"/v1/sessions/{session['id']}/end", {"consultant_done": True, "sources": {"portal": 20}})

    def life(self, link=None):
        link = link or self.issue()
        session = self.visit(link) | {"ticket": link["ticket"]}
        self.check(session)
        self.report(session)
        self.check(session)
        self.report(session, 11)
        self.end(session)

    def all_at_once(self, what, *lists):
        """By `CALLERS` at a time; what fails is told, and is no reason to stop."""
        def once(*words):
            try:
                return what(*words)
            except Exception as error:
                self.wrong.append(f"{error}"[:300])
        return list(self.pool.map(once, *lists))

    def day(self, midnight, links):
        """A day's work; at its end everything has left."""
        for hour, first in enumerate(HOURS):
            self.move(midnight.replace(hour=first))
            share = links * (hour + 1) // len(HOURS) - links * hour // len(HOURS)
            if hour == 0:
                alone = []
                for _ in range(min(LONE_ISSUES, share - 1)):
                    alone.append(self.timed("issue", self.issue))
                    self.timed("commit", self.beside.cursor().execute, "INSERT INTO beside VALUES (now())")
                session = self.visit(self.issue())
                for _ in range(LONE_CHECKS):
                    self.timed("check", self.check, session)
                    self.timed("empty", self.call, "GET", "/healthz")
                self.report(session, count=20)
                self.all_at_once(self.life, alone)
                share -= len(alone) + 1
            self.all_at_once(self.life, [None] * share)
        self.rest()

    def rest(self):
        """Until every mail that is due, and every message, has left."""
        due = f"""SELECT (SELECT count(*) FROM mail_jobs WHERE finished_at IS NULL AND next_attempt_at <= '{self.now.isoformat()}')
            + (SELECT count(*) FROM webhook_events) + (SELECT count(*) FROM webhook_deliveries WHERE finished_at IS NULL)"""
        servers.eventually("everything has left", lambda: self.ask(due)[0][0] == 0, 120, 0.05)
        with self.hooks.lock:
            self.messages += len(self.hooks.messages)
            self.hooks.messages.clear()

    def maintain(self):
        """As cron does once a day, under the role that may erase: seconds, seconds of CPU, and what was erased."""
        began, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        said = json.loads(self.command("maintain", "--json", MAGIC_LINK_DATABASE_URL=self.of("magic_link_janitor")).strip().split("\n")[-1])
        seconds, now = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        return seconds, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime, said

    def verify(self, tenant):
        """What `audit verify` says of a tenant's whole log, beside a checkpoint that was taken before."""
        key = self.command("audit", "verifier-key", "--tenant", tenant).strip()
        checkpoint, export = (os.path.join(self.folder, what) for what in ("checkpoint", "export"))
        for file, words in ((checkpoint, ("audit", "checkpoint")), (export, ("audit", "export"))):
            with open(file, "w") as out:
                out.write(self.command(*words, "--tenant", tenant))
        return self.command("audit", "verify", "--key", key, "--checkpoint", checkpoint, export).strip().split("\n")[-1]

    def leave(self):
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.copy.process.terminate()
        self.copy.process.wait(40)
        for server in (self.mails, self.hooks):
            server.shutdown()
            server.server_close()
