"""The guard: lets support consultants into a FastAPI portal through Magic Link. Copy this file; the README says how.

Its numbers are those of the rules in `examples/portal/README.md`. State is in memory: with several copies of the portal,
put `sessions`, `arrivals` and `owed` into the store that they share, and draw the numbers of reports there under a lock.
"""
import asyncio, base64, contextlib, hashlib, hmac, html, json, logging, re, secrets, time
from datetime import datetime, timedelta, timezone

import httpx
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

log = logging.getLogger("magic_link")
PATIENCE = timedelta(minutes=10)    # to say yes on the arrival page
LATE = timedelta(hours=72)          # how long the service takes reports after the end
BODY_SECONDS = 10                   # for a body to come
SLOW_SECONDS = 1                    # a report that took longer is asked about again
PERSONS = 100                       # whom one event names at most


def now() -> datetime:
    return datetime.now(timezone.utc)


class Refused(Exception):
    """The service said no, and nothing happened there."""

    def __init__(self, status, code):
        super().__init__(f"{status} {code}")
        self.status, self.code = status, code


class NoVerdict(Exception):
    """No usable answer: the service may have acted or not."""


class Stop(Exception):
    """A request ends with a notice instead of its page."""

    def __init__(self, status, mark, title, text=""):
        super().__init__(title)
        self.status, self.mark, self.title, self.text = status, mark, title, text


ENDED = (403, "ended", "Access has ended", "Its time is up, it was ended, or this browser never had it.")
UNKNOWN = (503, "unavailable", "Access cannot be checked right now", "Nobody is let in without the word of the service. Try again in a moment.")
UNRECORDED = (503, "unavailable", "This could not be recorded", "Nothing happens without a record, so nothing happened. Try again in a moment.")
ELSEWHERE = (403, "refused", "This was asked for by another site", "Nothing was shown or changed. Ask for it on a page of this portal.")
UNSEEN = (405, "refused", "This is shown to nobody", "Nothing was done. Ask for it with GET.")
AHEAD = (503, "unavailable", "This is not fetched ahead", "Nothing was done. It is shown when it is asked for.")
UNREADABLE = ("refused", "This request cannot be read", "Go back, reload the page and try again.")
TWICE = (403, "refused", "This browser holds two sessions", "Another site may have put one of them here. Delete the cookies of this site, and use the link in your mail again.")
SUPERSEDED = (403, "refused", "This question is not open any more", "Nobody was signed in. Use the link in your mail again.")


class Session:
    """What a code bought, and the numbered report of what was done with it."""

    def __init__(self, tenant, opened):
        self.id, self.link_id, self.tenant, self.token = opened["id"], opened["magic_link_id"], tenant, opened["access_token"]
        self.profile, self.consultant = opened["profile"], opened["consultant"]
        self.expires_at = datetime.fromisoformat(opened["expires_at"])
        self.lock, self.last_seq, self.unsettled = asyncio.Lock(), 0, None
        self.closed = self.done = False
        self.question, self.until, self.key = secrets.token_hex(32), min(now() + PATIENCE, self.expires_at), None


class Visitor:
    """Somebody whom the service confirmed during this very request."""

    def __init__(self, guard, session, token, is_from_here):
        self.guard, self.session, self.is_from_here = guard, session, is_from_here
        self.confirmed(token)

    def confirmed(self, token):
        self.read_only = token.get("access") != "full"
        self.modules, self.forbidden = token.get("modules"), token.get("forbidden") or []
        self.act, self.until = token["act"]["sub"], datetime.fromtimestamp(token["exp"], timezone.utc)

    def allow(self, kind, module, category=None):
        """The one place where `access`, `modules` and `forbidden` are kept to (rule 12), and what another site may not start (rule 17)."""
        if kind == "export" and not self.is_from_here:
            raise Stop(*ELSEWHERE)
        if self.read_only and kind == "change":
            why = "It is read only: you can look, but not change anything."
        elif self.modules is not None and module not in self.modules:
            why = "It does not reach into this part of the portal."
        elif category in self.forbidden or (kind == "export" and "export" in self.forbidden):
            why = "The company has left out what you tried."
        else:
            return
        raise Stop(403, "refused", "This access does not include that", why)

    async def ask_again(self, kind, module, category):
        """Whether the visitor may still do it, now: since they were let in, the request has waited (rule 6)."""
        if self.session.closed:
            raise Stop(*ENDED)
        self.confirmed(await self.guard.introspect(self.session))
        self.allow(kind, module, category)

    async def report(self, kind, action, resource_type, resource_id, *, principal_ids=(), **more):
        """Records an act. Show or do it only after this returns (rule 8), with no pause in between, and wait for locks of your own before.
        It names everybody whose data it is: one person in `principal_id`, several in `principal_ids`."""
        persons = list(principal_ids)
        for first in range(0, len(persons) or 1, PERSONS):
            await self.record(kind, action, resource_type, resource_id, principal_ids=persons[first:first + PERSONS], **more)

    async def record(self, kind, action, resource_type, resource_id, *, module, category=None, principal_id=None, principal_ids=(), changes=()):
        act = {"kind": kind, "action": action, "resource_type": resource_type, "resource_id": resource_id,
               "category": category, "principal_id": principal_id, "principal_ids": list(principal_ids), "changes": list(changes)}
        try:
            json.dumps(act, ensure_ascii=False, allow_nan=False).encode()
        except ValueError:          # a lone surrogate: under a number, what cannot be sent would hold up all that follows
            raise Stop(400, *UNREADABLE)
        session = self.session
        async with session.lock:
            try:
                # The same act once more is the retry of the one that was left open: same number, same content (rule 9).
                is_retry = session.unsettled and {**session.unsettled, **act} == session.unsettled
                if not is_retry:
                    await self.guard.settle(session)
                asked = time.monotonic()
                await self.ask_again(kind, module, category)
                if not is_retry:
                    self.guard.number(session, act)
                await self.guard.deliver(session)
                if time.monotonic() - asked > SLOW_SECONDS or now() >= min(self.until, session.expires_at):
                    # Of a change, the way back: noted before asking, whatever becomes of that, and forgotten if it is made after all.
                    self.guard.take_back(session, act)
                    try:
                        await self.ask_again(kind, module, category)
                    except Stop:                    # a change is not made: the record says so, now or with the next act or the count
                        try:
                            await self.guard.settle(session)
                        except NoVerdict as error:
                            log.warning("session %s: not taken back yet: %s", session.id, error)
                        raise
                    session.unsettled = None
            except (Refused, NoVerdict) as error:
                log.warning("session %s: not recorded: %s", session.id, error)
                # What is wrong with the key is nothing that the visitor could change.
                if isinstance(error, Refused) and error.status not in (401, 403):
                    raise Stop(422, "refused", "This cannot be recorded", "Nothing happens without a record, so nothing happened. "
                               f"The service refuses what it would say ({error.code}), and will refuse the same again.")
                raise Stop(*UNRECORDED)

    def banner(self):
        """Who acts, as whom, until when (rule 11)."""
        limits = ["Read only"] if self.read_only else []
        limits += [f"Only in: {', '.join(self.modules)}"] if self.modules is not None else []
        limits += [f"Not included: {', '.join(self.forbidden).replace('_', ' ')}"] if self.forbidden else []
        return (f'<section id="acting-as" data-act="{html.escape(self.act)}"><p><strong>{html.escape(self.session.consultant["name"])}</strong> '
                f'(support) is acting as <strong>{html.escape(self.session.profile["name"])}</strong> until <time datetime="{self.until.isoformat()}">'
                f'{self.until:%d %b %Y, %H:%M} UTC</time>. {html.escape(". ".join([*limits, "Everything is recorded"]))}.</p>'
                f'<form method="post" action="{self.guard.root(self.session.tenant)}done"><button id="done">I am done</button></form></section>')


def page(mark, title, body, status=200, visitor=None):
    """`body` is HTML. With a visitor, the page asks again when their time is up."""
    head = banner = ""
    if visitor:
        head = f'<meta http-equiv="refresh" content="{max(1, int((visitor.until - now()).total_seconds()) + 1)}">'
        banner = visitor.banner()
    return HTMLResponse(f'<!doctype html><html lang="en"><head><meta charset="utf-8">{head}<title>{html.escape(title)}</title></head>'
                        f'<body data-page="{mark}">{banner}<main><h1>{html.escape(title)}</h1>{body}</main></body></html>', status)


def code_of(answer: httpx.Response) -> str:
    """The stable code of a problem (RFC 9457)."""
    try:
        return str(answer.json()["code"])
    except (ValueError, KeyError, TypeError):
        return ""


def verified(secret: str, headers, body: bytes, at: float) -> bool:
    """Standard Webhooks 1.0: HMAC-SHA256 over id, time and the bytes as they came; five minutes either way."""
    message, sent, given = (headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    if not message or not re.fullmatch(r"[0-9]{1,12}", sent) or abs(at - int(sent)) > 300:
        return False
    mac = hmac.new(base64.b64decode(secret.removeprefix("whsec_")), f"{message}.{sent}.".encode() + body, hashlib.sha256)
    wanted = b"v1," + base64.b64encode(mac.digest())
    return any(hmac.compare_digest(wanted, one.encode()) for one in given.split(" "))


class MagicLink:
    def __init__(self, app: FastAPI, *, service: str, key: str, public_url: str, portal: str, webhook_secret: str | None = None,
                 largest_body: int = 64 * 1024):
        self.portal, self.public_url, self.secret, self.largest_body = portal, public_url.rstrip("/"), webhook_secret, largest_body
        self.secure = self.public_url.startswith("https:")
        # No redirects: they would carry the key to an address nobody configured.
        self.http = httpx.AsyncClient(base_url=service, headers={"Authorization": f"Bearer {key}"}, timeout=httpx.Timeout(5, connect=2))
        self.sessions: dict[str, Session] = {}
        self.arrivals: dict[str, Session] = {}
        self.owed: set[Session] = set()             # closing counts that the service has not taken yet
        at = f"/{{tenant}}/{portal}"
        app.add_api_route(f"{at}/callback", self.callback, methods=["GET"], include_in_schema=False)
        app.add_api_route(f"{at}/arrival", self.ask, methods=["GET"], include_in_schema=False)
        app.add_api_route(f"{at}/arrival", self.answer, methods=["POST"], include_in_schema=False)
        app.add_api_route(f"{at}/done", self.finish, methods=["POST"], include_in_schema=False)
        if webhook_secret:
            app.add_api_route("/webhooks/magic-link", self.webhook, methods=["POST"], include_in_schema=False)
        app.add_exception_handler(Stop, self.notice)
        app.add_middleware(self.whole)
        app.middleware("http")(self.headers)

    # --- the conversation with the service ---

    async def call(self, path, *, unclear=False, **request):
        """POST, repeated once where the first attempt brought no verdict. `unclear`: a refusal of the repeat does not
        tell that the first attempt was not taken."""
        pause = None
        while True:
            try:
                answer = await self.http.post(path, **request)
                if answer.is_success:
                    return answer.json()
                wait = answer.headers.get("retry-after", "")
                if answer.status_code < 500 and not (wait and answer.status_code in (409, 429)):
                    if unclear and pause is not None:
                        raise NoVerdict(f"{path}: refused after no verdict: {answer.status_code}")
                    raise Refused(answer.status_code, code_of(answer))
                failure, next_pause = f"{path}: {answer.status_code}", min(int(wait), 2) if wait.isdigit() else 1
            except (httpx.HTTPError, ValueError) as error:
                failure, next_pause = f"{path}: {type(error).__name__}", 0
            if pause is not None:
                raise NoVerdict(failure)
            pause = next_pause
            await asyncio.sleep(pause)

    def number(self, session, act):
        session.unsettled = {"seq": session.last_seq + 1, "source": "portal", "occurred_at": now().isoformat(), **act}

    async def deliver(self, session):
        try:
            await self.call(f"/v1/sessions/{session.id}/events", json={"events": [session.unsettled]}, unclear=True)
        except Refused:
            session.unsettled = None                # surely not taken: its number is free
            raise
        session.last_seq, session.unsettled = session.unsettled["seq"], None

    async def settle(self, session):
        """Clears up what an earlier attempt left open. Its act was never done: for a change, the way back is recorded too."""
        while session.unsettled:
            open_act = session.unsettled
            try:
                await self.deliver(session)
            except Refused:
                return                              # it left no trace, and holds nothing else up
            self.take_back(session, open_act)

    def take_back(self, session, recorded):
        """Of what was recorded and not done: for a change, the way back."""
        if recorded["kind"] == "change" and recorded["action"] != "change.not_applied":
            back = [{**one, "before": one["after"], "after": one["before"]} for one in recorded["changes"]]
            act = {name: recorded[name] for name in ("kind", "resource_type", "resource_id", "category", "principal_id", "principal_ids")}
            self.number(session, {**act, "action": "change.not_applied", "changes": back})

    async def close(self, session):
        """Ends the session with its count (rule 10). What the service does not take now is sent again by `sweep`."""
        async with session.lock:
            session.closed = True
            self.owed.add(session)
            try:
                await self.settle(session)
                await self.call(f"/v1/sessions/{session.id}/end",
                                json={"consultant_done": session.done, "sources": {"portal": session.last_seq}})
            except NoVerdict as error:
                return log.warning("session %s: not closed yet: %s", session.id, error)
            except Refused as error:
                if error.status not in (404, 409, 410) and now() < session.expires_at + LATE:
                    return log.warning("session %s: not closed yet: %s", session.id, error)
            self.owed.discard(session)

    def forget(self, chosen):
        """Out here at once; the service hears of it a moment later."""
        for key, session in [pair for pair in self.sessions.items() if chosen(pair[1])]:
            del self.sessions[key]
            self.owed.add(session)

    @contextlib.asynccontextmanager
    async def lifespan(self, _app):
        """Give it to `FastAPI(lifespan=…)`."""
        task = asyncio.create_task(self.sweep())
        yield
        task.cancel()
        await self.http.aclose()

    async def sweep(self):
        while True:
            self.forget(lambda session: session.expires_at <= now())
            for key, session in [pair for pair in self.arrivals.items() if pair[1].until <= now()]:
                del self.arrivals[key]
                if session.key is None:
                    self.owed.add(session)
            for session in list(self.owed):
                await self.close(session)
            await asyncio.sleep(1)

    # --- the guard ---

    def whole(self, app):
        """Reads each body to its end before anything is asked or done: a form may be begun before the end of an access
        and finished after it (rule 6). What is too large, too slow or of another character set gets no further."""
        guarded = re.compile(rf"/{re.escape(self.portal)}/|/webhooks/magic-link$")

        async def read_first(scope, receive, send):
            if scope["type"] != "http" or not guarded.search(scope["path"]):
                return await app(scope, receive, send)
            kind = dict(scope["headers"]).get(b"content-type", b"")
            body, more, status = b"", True, 415 if re.search(rb'(?i)charset=(?!"?utf-?8\b)', kind) else None
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    while more and not status:
                        came = await receive()
                        if came["type"] == "http.disconnect":
                            return
                        body, more = body + came.get("body", b""), came.get("more_body", False)
                        status = 413 if len(body) > self.largest_body else None
            except TimeoutError:
                status = 408
            if status:
                return await (await self.notice(None, Stop(status, *UNREADABLE)))(scope, receive, send)
            unread = [{"type": "http.request", "body": body}]

            async def read():
                return unread.pop() if unread else await receive()
            await app(scope, read, send)
        return read_first

    def root(self, tenant):
        """The path of this tenant's pages, and of its cookies (rule 5)."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", tenant):
            raise Stop(404, "refused", "There is no such page")
        return f"/{tenant}/{self.portal}/"

    async def visitor(self, request: Request, tenant: str) -> Visitor:
        """The dependency of every page: `visitor: Visitor = Depends(guard.visitor)`."""
        self.root(tenant)
        self.seen(request)
        if request.method != "GET":
            self.own_form(request)
        session = self.sessions.get(self.cookie(request, "portal_session"))
        if not session or session.tenant != tenant:
            raise Stop(*ENDED)
        return Visitor(self, session, await self.introspect(session), self.is_from_here(request))

    async def introspect(self, session):
        """The clear yes of the service, now (rule 6)."""
        if now() < session.expires_at:
            try:
                token = await self.call("/v1/introspect", data={"token": session.token})
            except (Refused, NoVerdict) as error:
                log.warning("session %s: not checked: %s", session.id, error)
                raise Stop(*UNKNOWN)
            if self.is_clear_yes(token, session):
                return token
            if not isinstance(token, dict) or token.get("active") is not False and not self.is_over(token):
                raise Stop(*UNKNOWN)                # neither yes nor no
        self.forget(lambda one: one is session)
        raise Stop(*ENDED)

    def is_over(self, token):
        return token.get("active") is True and type(token.get("exp")) is int and time.time() >= token["exp"]

    def is_clear_yes(self, token, session):
        """Rules 3 and 6: of this session, this tenant and this portal, and not a moment after `exp`."""
        return (isinstance(token, dict) and token.get("active") is True and token.get("sid") == session.id
                and token.get("tenant_id") == session.tenant and token.get("portal") == self.portal
                and token.get("sub") == session.profile["id"] and token.get("act") == {"sub": session.consultant["id"]}
                and type(token.get("exp")) is int and time.time() < token["exp"])

    def cookie(self, request, name):
        """A cookie of ours. Of two that differ nobody's: any host above or beside this one could have set one (rule 5)."""
        pairs = (pair.strip().partition("=") for line in request.headers.getlist("cookie") for pair in line.split(";"))
        values = {value for known, _, value in pairs if known == name}
        if len(values) > 1:
            raise Stop(*TWICE)
        return values.pop() if values else ""

    def own_form(self, request):
        """Only forms of our own pages (rule 15)."""
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
        if not (site == "same-origin" if site is not None else origin == self.public_url):
            raise Stop(*ELSEWHERE)

    def is_from_here(self, request):
        """Whether a page of ours or the visitor's own typing asks for it (rule 17). Who does not say passes, for a form is asked more strictly."""
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
        return site in ("same-origin", "none") if site is not None else origin in (None, self.public_url)

    def seen(self, request):
        """Nothing is done for what nobody may ever see (rule 17)."""
        if request.method == "HEAD":
            raise Stop(*UNSEEN)
        if any("prefetch" in request.headers.get(name, "").lower() for name in ("sec-purpose", "purpose", "x-moz")):
            raise Stop(*AHEAD)

    # --- the way in and out ---

    async def callback(self, request: Request, tenant: str, code: str = ""):
        """Redeems the code. Nobody is signed in yet (rule 16)."""
        root = self.root(tenant)
        self.seen(request)
        # A socket for both kinds shows IPv4 as ::ffff:203.0.113.9, and behind a Unix socket there is no peer.
        address = re.sub(r"^::ffff:(?=\d+\.)", "", request.client.host) if request.client else None
        body = {"token": code, "visitor": {"address": address, "user_agent": request.headers.get("user-agent", "")[:256]}}
        try:
            opened = await self.call("/v1/sessions", json=body, headers={"Idempotency-Key": secrets.token_hex(16)})
        except Refused as error:
            if error.status in (400, 404, 409, 410):
                raise Stop(error.status, "refused", "This link opens nothing", f"The service says: {error.code}. Use the link in your mail again: its page can e-mail you a fresh one.")
            log.warning("a code was not redeemed: %s", error)
            raise Stop(*UNKNOWN)
        except NoVerdict as error:
            log.warning("a code was not redeemed: %s", error)
            raise Stop(*UNKNOWN)
        session = Session(tenant, opened)
        if opened["tenant_id"] != tenant or opened["portal"] != self.portal:
            self.owed.add(session)                  # somebody else's door: ended, not used
            raise Stop(404, "refused", "This link belongs to another portal")
        key = secrets.token_hex(32)
        self.arrivals[key] = session
        answer = RedirectResponse(f"{root}arrival", 303)
        self.set_cookie(answer, tenant, "portal_arrival", key, PATIENCE.total_seconds())
        return answer

    def arrival(self, request, tenant):
        session = self.arrivals.get(self.cookie(request, "portal_arrival"))
        if not session or session.tenant != tenant or session.until <= now():
            raise Stop(*SUPERSEDED)
        return session

    async def ask(self, request: Request, tenant: str):
        """Asks whether the visitor is who the code says."""
        root, session = self.root(tenant), self.arrival(request, tenant)
        if session.key:
            raise Stop(*SUPERSEDED)
        current = self.sessions.get(self.cookie(request, "portal_session"))
        ends = f"<p>This ends the session of {html.escape(current.consultant['name'])} in this browser.</p>" if current and current.tenant == tenant else ""
        profile = html.escape(session.profile["name"])
        return page("arrival", f"Continue as {session.profile['name']}?",
                    f"<p>You are <strong>{html.escape(session.consultant['name'])}</strong> (support), and would act as <strong>{profile}</strong> until "
                    f"{session.expires_at:%d %b %Y, %H:%M} UTC. Everything is recorded under your name.</p>{ends}"
                    f'<form method="post" action="{root}arrival"><input type="hidden" name="question" value="{session.question}">'
                    f'<button id="arrive" name="answer" value="yes">Continue as {profile}</button> '
                    f'<button id="decline" name="answer" value="no">That is not me</button></form>')

    async def answer(self, request: Request, tenant: str):
        """Yes starts the session, under a fresh id (rule 4), and ends the one before it. No ends what the code opened."""
        root, form = self.root(tenant), await request.form()
        self.own_form(request)
        session = self.arrival(request, tenant)
        if form.get("question") != session.question or session.key and form.get("answer") != "yes":
            raise Stop(*SUPERSEDED)
        if form.get("answer") != "yes":
            self.arrivals = {key: one for key, one in self.arrivals.items() if one is not session}
            await self.close(session)
            return page("refused", "Nobody was signed in", "<p>What the link opened was ended. If you opened no link, tell your security contact.</p>")
        if session.key is None:                     # a double click gets the same answer
            earlier = self.sessions.get(self.cookie(request, "portal_session"))
            session.key = secrets.token_hex(32)
            self.sessions[session.key] = session
            self.forget(lambda one: one is earlier and one.tenant == tenant)
        answer = RedirectResponse(root, 303)
        self.set_cookie(answer, tenant, "portal_session", session.key, (session.expires_at - now()).total_seconds())
        return answer

    async def finish(self, request: Request, tenant: str):
        """I am done."""
        self.own_form(request)
        session = self.sessions.get(self.cookie(request, "portal_session"))
        if not session or session.tenant != tenant:
            raise Stop(*ENDED)
        session.done = True                         # before the sweep can see it
        self.forget(lambda one: one is session)
        await self.close(session)
        answer = page("goodbye", "Your support session is over", "<p>Thank you. You can close this page.</p>")
        self.set_cookie(answer, tenant, "portal_session", "", 0)
        return answer

    async def webhook(self, request: Request):
        """Messages of the service: what has ended is forgotten at once, and its record closed."""
        body = await request.body()
        if not verified(self.secret, request.headers, body, time.time()):
            return Response(status_code=401)
        event = json.loads(body)
        # Whatever its sequence: what has ended never begins again, so a repeat or a late message finds nothing to forget.
        if event["type"] == "session.ended":
            self.forget(lambda session: session.id == event["data"].get("session_id"))
        elif event["type"] in ("magic_link.revoked", "magic_link.replaced", "magic_link.expired"):
            self.forget(lambda session: session.link_id == event["data"].get("magic_link_id"))
        return Response(status_code=204)

    # --- what every answer shares ---

    def set_cookie(self, answer, tenant, name, value, seconds):
        # Lax: Strict would be held back on the way in.
        answer.set_cookie(name, value, max_age=int(max(0, seconds)), path=self.root(tenant), secure=self.secure, httponly=True, samesite="lax")

    async def notice(self, _request, stop: Stop):
        answer = page(stop.mark, stop.title, f"<p>{html.escape(stop.text)}</p>", stop.status)
        if stop.status == 503:
            answer.headers["Retry-After"] = "5"
        if stop.status == 405:
            answer.headers["Allow"] = "GET"
        return answer

    async def headers(self, request, call_next):
        answer = await call_next(request)
        # The address of the callback holds the code, and nobody may learn it. Elsewhere `no-referrer` would make the
        # browser send `Origin: null` with our own forms.
        is_callback = request.scope["path"].rstrip("/").endswith("/callback")
        for name, value in {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer" if is_callback else "same-origin",
                            "X-Content-Type-Options": "nosniff",
                            "Content-Security-Policy": "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"}.items():
            answer.headers.setdefault(name, value)
        return answer
