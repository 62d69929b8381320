/**
 * The guard: lets support consultants into an Express portal through Magic Link. Copy this file; the README says how.
 *
 * Its numbers are those of the rules in `examples/portal/README.md`. State is in memory: with several copies of the portal,
 * put `sessions`, `arrivals` and `owed` into the store that they share, and draw the numbers of reports there under a lock.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import express, { type NextFunction, type Request, type Response, type Router } from 'express';

const PATIENCE = 10 * 60_000;   // to say yes on the arrival page
const LATE = 72 * 3_600_000;    // how long the service takes reports after the end
const SLOW = 1000;              // a report that took longer is asked about again
const PERSONS = 100;            // whom one event names at most

export interface Settings { service: string; key: string; publicUrl: string; portal: string; webhookSecret?: string | undefined }
export interface Change { field: string; before: string; after: string }
export interface Act {
  kind: 'view' | 'export' | 'change'; action: string; resource_type: string; resource_id: string;
  category?: string | undefined; principal_id?: string | undefined; principal_ids?: string[] | undefined; changes?: Change[] | undefined;
}
interface Numbered extends Act { seq: number; source: string; occurred_at: string }
interface Opened {
  id: string; magic_link_id: string; tenant_id: string; portal: string; access_token: string; expires_at: string;
  profile: { id: string; name: string }; consultant: { id: string; name: string };
}
interface Token {
  active: true; sid: string; sub: string; act: { sub: string }; exp: number; tenant_id: string; portal: string;
  access: string; modules?: string[]; forbidden?: string[];
}

/** The service said no, and nothing happened there. */
class Refused extends Error { constructor(readonly status: number, readonly code: string) { super(`${status} ${code}`); } }
/** No usable answer: the service may have acted or not. */
class NoVerdict extends Error {}
/** A request ends with a notice instead of its page. */
export class Stop extends Error { constructor(readonly status: number, readonly mark: string, readonly title: string, readonly text = '') { super(title); } }

const ended = () => new Stop(403, 'ended', 'Access has ended', 'Its time is up, it was ended, or this browser never had it.');
const unknown = () => new Stop(503, 'unavailable', 'Access cannot be checked right now', 'Nobody is let in without the word of the service. Try again in a moment.');
const unrecorded = () => new Stop(503, 'unavailable', 'This could not be recorded', 'Nothing happens without a record, so nothing happened. Try again in a moment.');
const unrecordable = (code: string) => new Stop(422, 'refused', 'This cannot be recorded', `Nothing happens without a record, so nothing happened. The service refuses what it would say (${code}), and will refuse the same again.`);
const elsewhere = () => new Stop(403, 'refused', 'This was asked for by another site', 'Nothing was shown or changed. Ask for it on a page of this portal.');
const unseen = () => new Stop(405, 'refused', 'This is shown to nobody', 'Nothing was done. Ask for it with GET.');
const ahead = () => new Stop(503, 'unavailable', 'This is not fetched ahead', 'Nothing was done. It is shown when it is asked for.');
export const unreadable = (status = 400) => new Stop(status, 'refused', 'This request cannot be read', 'Go back, reload the page and try again.');
const twice = () => new Stop(403, 'refused', 'This browser holds two sessions', 'Another site may have put one of them here. Delete the cookies of this site, and use the link in your mail again.');
const superseded = () => new Stop(403, 'refused', 'This question is not open any more', 'Nobody was signed in. Use the link in your mail again.');

const random = () => randomBytes(32).toString('hex');
export const escape = (text: string) => text.replace(/[&<>"']/g, (one) => `&#${one.charCodeAt(0)};`);

/** What a code bought, and the numbered report of what was done with it. */
class Session {
  readonly expiresAt: number;
  readonly question = random();
  readonly until: number;
  key?: string;                 // of the cookie, once the visitor has said yes
  lastSeq = 0;
  unsettled: Numbered | undefined;
  closed = false;
  done = false;
  private last: Promise<unknown> = Promise.resolve();

  constructor(readonly tenant: string, readonly opened: Opened) {
    this.expiresAt = Date.parse(opened.expires_at) || 0;
    this.until = Math.min(Date.now() + PATIENCE, this.expiresAt);
  }

  /** One after the other, in the order of asking. */
  inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.last.then(work);
    this.last = mine.catch(() => undefined);
    return mine;
  }
}

/** Somebody whom the service confirmed during this very request. */
export class Visitor {
  constructor(private readonly guard: MagicLink, readonly session: Session, private token: Token, private readonly isFromHere: boolean) {}

  get readOnly() { return this.token.access !== 'full'; }
  get until() { return this.token.exp * 1000; }
  get profile() { return this.session.opened.profile; }

  /** The one place where `access`, `modules` and `forbidden` are kept to (rule 12), and what another site may not start (rule 17). */
  private allow(act: Act, module: string) {
    if (act.kind === 'export' && !this.isFromHere) throw elsewhere();
    const { modules, forbidden = [] } = this.token;
    const why = this.readOnly && act.kind === 'change' ? 'It is read only: you can look, but not change anything.'
      : modules && !modules.includes(module) ? 'It does not reach into this part of the portal.'
      : forbidden.includes(act.category ?? '') || (act.kind === 'export' && forbidden.includes('export')) ? 'The company has left out what you tried.' : undefined;
    if (why) throw new Stop(403, 'refused', 'This access does not include that', why);
  }

  /** Whether the visitor may still do it, now: since they were let in, the request has waited, or came to its end (rule 6). */
  private async askAgain(act: Act, module: string) {
    if (this.session.closed) throw ended();
    this.token = await this.guard.introspect(this.session);
    this.allow(act, module);
  }

  /**
   * Records an act of a part of the portal. Show or do it only after this returns (rule 8), with no pause in between, and wait for locks of your own before.
   * It names everybody whose data it is: one person in `principal_id`, several in `principal_ids`.
   */
  async report(module: string, act: Act): Promise<void> {
    const persons = act.principal_ids ?? [];
    if (persons.length <= PERSONS) return this.record(module, act);
    for (let first = 0; first < persons.length; first += PERSONS) await this.record(module, { ...act, principal_ids: persons.slice(first, first + PERSONS) });
  }

  private async record(module: string, act: Act): Promise<void> {
    await this.session.inTurn(async () => {
      const { session, guard } = this;
      try {
        // The same act once more is the retry of the one that was left open: same number, same content (rule 9).
        const { seq, source, occurred_at, ...open } = session.unsettled ?? {} as Numbered;
        const isRetry = session.unsettled && JSON.stringify(open) === JSON.stringify(act);
        if (!isRetry) await guard.settle(session);
        const asked = performance.now();
        await this.askAgain(act, module);
        if (!isRetry) guard.number(session, act);
        await guard.deliver(session);
        if (performance.now() - asked > SLOW || Date.now() >= Math.min(this.until, session.expiresAt)) {
          // Of a change, the way back: noted before asking, whatever becomes of that, and forgotten if it is made after all.
          guard.takeBack(session, act);
          await this.askAgain(act, module).catch(async (no) => {
            // A change is not made: the record says so, now or with the next act or the count.
            await guard.settle(session).catch((error: Error) => guard.log(`session ${session.opened.id}: not taken back yet: ${error.message}`));
            throw no;
          });
          session.unsettled = undefined;
        }
      } catch (error) {
        if (!(error instanceof Refused || error instanceof NoVerdict)) throw error;
        guard.log(`session ${session.opened.id}: not recorded: ${error.message}`);
        // What is wrong with the key is nothing that the visitor could change.
        throw error instanceof Refused && ![401, 403].includes(error.status) ? unrecordable(error.code) : unrecorded();
      }
    });
  }

  /** Who acts, as whom, until when (rule 11). */
  banner(): string {
    const { modules, forbidden } = this.token, { consultant, profile } = this.session.opened, until = new Date(this.until).toISOString();
    const limits = [this.readOnly && 'Read only', modules && `Only in: ${modules.join(', ')}`,
      forbidden && `Not included: ${forbidden.join(', ').replaceAll('_', ' ')}`, 'Everything is recorded'].filter((one) => !!one);
    return `<section id="acting-as" data-act="${escape(this.token.act.sub)}"><p><strong>${escape(consultant.name)}</strong> (support) is acting as
      <strong>${escape(profile.name)}</strong> until <time datetime="${until}">${until.slice(0, 16).replace('T', ' ')} UTC</time>. ${escape(limits.join('. '))}.</p>
      <form method="post" action="${this.guard.root(this.session.tenant)}done"><button id="done">I am done</button></form></section>`;
  }
}

/** `body` is HTML. With a visitor, the page asks again when their time is up. */
export function page(mark: string, title: string, body: string, visitor?: Visitor): string {
  const seconds = visitor && Math.max(1, Math.ceil((visitor.until - Date.now()) / 1000));
  return `<!doctype html><html lang="en"><head><meta charset="utf-8">${visitor ? `<meta http-equiv="refresh" content="${seconds}">` : ''}<title>${escape(title)}</title></head>
    <body data-page="${mark}">${visitor?.banner() ?? ''}<main><h1>${escape(title)}</h1>${body}</main></body></html>`;
}

/** Standard Webhooks 1.0: HMAC-SHA256 over id, time and the bytes as they came; five minutes either way. */
export function verified(secret: string, headers: Record<string, unknown>, body: Buffer, now = Date.now()): boolean {
  const [id, sent, given] = ['id', 'timestamp', 'signature'].map((name) => String(headers[`webhook-${name}`] ?? ''));
  if (!id || !/^[0-9]{1,12}$/.test(sent!) || Math.abs(now / 1000 - Number(sent)) > 300) return false;
  const mac = createHmac('sha256', Buffer.from(secret.replace(/^whsec_/, ''), 'base64')).update(`${id}.${sent}.`).update(body).digest();
  return given!.split(' ').some((one) => {
    const [version, text] = one.split(',');
    const theirs = Buffer.from(text ?? '', 'base64');
    return version === 'v1' && theirs.length === mac.length && timingSafeEqual(theirs, mac);
  });
}

/** A cookie of ours. Of two that differ nobody's: any host above or beside this one could have set one (rule 5). */
function cookie(request: Request, name: string): string {
  const pairs = (request.headers.cookie ?? '').split(';').map((pair) => pair.trim().split('='));
  const values = new Set(pairs.filter(([known]) => known === name).map(([, value]) => value ?? ''));
  if (values.size > 1) throw twice();
  return [...values][0] ?? '';
}

export class MagicLink {
  private readonly sessions = new Map<string, Session>();
  private readonly arrivals = new Map<string, Session>();
  private readonly owed = new Set<Session>();           // closing counts that the service has not taken yet
  private readonly publicUrl: string;
  log = (line: string) => console.warn(`magic link: ${line}`);

  constructor(private readonly settings: Settings) {
    this.publicUrl = settings.publicUrl.replace(/\/$/, '');
    void this.sweep();
  }

  // --- the conversation with the service ---

  /** POST, repeated once where the first attempt brought no verdict. `unclear`: a refusal of the repeat does not tell that the first attempt was not taken. */
  private async call(path: string, body: object | URLSearchParams, headers: Record<string, string> = {}, unclear = false): Promise<unknown> {
    const isForm = body instanceof URLSearchParams;
    for (let attempt = 1, wait = 0; ; attempt++) {
      let failure: string;
      try {
        const answer = await fetch(new URL(path, this.settings.service), {
          // Redirects are not followed: they would carry the key to an address nobody configured.
          method: 'POST', redirect: 'manual', signal: AbortSignal.timeout(5000), body: isForm ? body : JSON.stringify(body),
          headers: { authorization: `Bearer ${this.settings.key}`, ...(isForm ? {} : { 'content-type': 'application/json' }), ...headers },
        });
        if (answer.ok) return await answer.json();
        const after = answer.headers.get('retry-after');
        if (answer.status < 500 && !(after && [409, 429].includes(answer.status))) {
          const { code } = await answer.json().catch(() => ({})) as { code?: string };
          if (unclear && attempt > 1) throw new NoVerdict(`${path}: refused after no verdict: ${answer.status}`);
          throw new Refused(answer.status, code ?? '');
        }
        await answer.body?.cancel();
        failure = `${path}: ${answer.status}`;
        wait = Math.min(Number(after) || 1, 2) * 1000;
      } catch (error) {
        if (error instanceof Refused || error instanceof NoVerdict) throw error;
        failure = `${path}: ${(error as Error).name}`;
        wait = 0;
      }
      if (attempt > 1) throw new NoVerdict(failure);
      await pause(wait);
    }
  }

  number(session: Session, act: Act) {
    session.unsettled = { seq: session.lastSeq + 1, source: 'portal', occurred_at: new Date().toISOString(), ...act };
  }

  async deliver(session: Session) {
    const event = session.unsettled!;
    try {
      await this.call(`/v1/sessions/${session.opened.id}/events`, { events: [event] }, {}, true);
    } catch (error) {
      if (error instanceof Refused) session.unsettled = undefined;    // surely not taken: its number is free
      throw error;
    }
    session.lastSeq = event.seq;
    session.unsettled = undefined;
  }

  /** Clears up what an earlier attempt left open. Its act was never done: for a change, the way back is recorded too. */
  async settle(session: Session) {
    while (session.unsettled) {
      const { seq, source, occurred_at, ...act } = session.unsettled;
      try {
        await this.deliver(session);
      } catch (error) {
        if (error instanceof Refused) return;       // it left no trace, and holds nothing else up
        throw error;
      }
      this.takeBack(session, act);
    }
  }

  /** Of what was recorded and not done: for a change, the way back. */
  takeBack(session: Session, act: Act) {
    if (act.kind !== 'change' || act.action === 'change.not_applied') return;
    const changes = act.changes?.map((one) => ({ ...one, before: one.after, after: one.before }));
    this.number(session, { ...act, action: 'change.not_applied', changes });
  }

  /** Ends the session with its count (rule 10). What the service does not take now is sent again by `sweep`. */
  private close(session: Session): Promise<void> {
    session.closed = true;
    this.owed.add(session);
    return session.inTurn(async () => {
      try {
        await this.settle(session);
        await this.call(`/v1/sessions/${session.opened.id}/end`, { consultant_done: session.done, sources: { portal: session.lastSeq } });
      } catch (error) {
        const isOver = error instanceof Refused && ([404, 409, 410].includes(error.status) || Date.now() > session.expiresAt + LATE);
        if (!isOver) return this.log(`session ${session.opened.id}: not closed yet: ${(error as Error).message}`);
      }
      this.owed.delete(session);
    });
  }

  /** Out here at once; the service hears of it a moment later. */
  private forget(chosen: (session: Session) => boolean) {
    for (const [key, session] of this.sessions) {
      if (!chosen(session)) continue;
      this.sessions.delete(key);
      this.owed.add(session);
    }
  }

  private async sweep() {
    for (;;) {
      this.forget((session) => session.expiresAt <= Date.now());
      for (const [key, session] of this.arrivals) {
        if (session.until > Date.now()) continue;
        this.arrivals.delete(key);
        if (!session.key) this.owed.add(session);
      }
      for (const session of [...this.owed]) await this.close(session);
      await pause(1000, undefined, { ref: false });
    }
  }

  // --- the guard ---

  /** The path of this tenant's pages, and of its cookies (rule 5). */
  root(tenant: unknown): string {
    if (typeof tenant !== 'string' || !/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(tenant)) throw new Stop(404, 'refused', 'There is no such page');
    return `/${tenant}/${this.settings.portal}/`;
  }

  private mine(request: Request): Session | undefined {
    const session = this.sessions.get(cookie(request, 'portal_session'));
    return session?.tenant === request.params.tenant ? session : undefined;
  }

  /** The middleware before every page. Handlers take `guard.visitor(response)`. */
  readonly protect = async (request: Request, response: Response, next: NextFunction) => {
    this.root(request.params.tenant);
    this.seen(request);
    if (request.method !== 'GET') this.ownForm(request);
    const session = this.mine(request);
    if (!session) throw ended();
    response.locals.visitor = new Visitor(this, session, await this.introspect(session), this.isFromHere(request));
    next();
  };

  /** The clear yes of the service, now (rule 6). */
  async introspect(session: Session): Promise<Token> {
    if (Date.now() < session.expiresAt) {
      const token = await this.call('/v1/introspect', new URLSearchParams({ token: session.opened.access_token })).catch((error: Error) => {
        this.log(`session ${session.opened.id}: not checked: ${error.message}`);
        throw unknown();
      }) as Partial<Token> | null;
      if (this.isClearYes(token, session)) return token as Token;
      const isOver = token?.active === true && typeof token.exp === 'number' && Date.now() >= token.exp * 1000;
      if ((token as { active?: unknown } | null)?.active !== false && !isOver) throw unknown();    // neither yes nor no
    }
    this.forget((one) => one === session);
    throw ended();
  }

  visitor(response: Response): Visitor {
    if (!(response.locals.visitor instanceof Visitor)) throw ended();   // the middleware is missing: nobody gets in
    return response.locals.visitor;
  }

  /** Rules 3 and 6: of this session, this tenant and this portal, and not a moment after `exp`. */
  private isClearYes(token: Partial<Token> | null, session: Session): boolean {
    return token?.active === true && token.sid === session.opened.id && token.tenant_id === session.tenant && token.portal === this.settings.portal
      && token.sub === session.opened.profile.id && token.act?.sub === session.opened.consultant.id
      && typeof token.exp === 'number' && Date.now() < token.exp * 1000;
  }

  /** Only forms of our own pages (rule 15). */
  private ownForm(request: Request) {
    const site = request.headers['sec-fetch-site'];
    if (!(site === undefined ? request.headers.origin === this.publicUrl : site === 'same-origin')) throw elsewhere();
  }

  /** Whether a page of ours or the visitor's own typing asks for it (rule 17). Who does not say passes, for a form is asked more strictly. */
  private isFromHere(request: Request): boolean {
    const { 'sec-fetch-site': site, origin } = request.headers;
    return site === undefined ? origin === undefined || origin === this.publicUrl : site === 'same-origin' || site === 'none';
  }

  /** Nothing is done for what nobody may ever see (rule 17). */
  private seen(request: Request) {
    if (request.method === 'HEAD') throw unseen();
    if (['sec-purpose', 'purpose', 'x-moz'].some((name) => /prefetch/i.test(String(request.headers[name])))) throw ahead();
  }

  private setCookie(response: Response, tenant: string, name: string, value: string, milliseconds: number) {
    // Lax: Strict would be held back on the way in.
    response.cookie(name, value, { maxAge: Math.max(0, milliseconds), path: this.root(tenant), httpOnly: true, sameSite: 'lax', secure: this.publicUrl.startsWith('https:') });
  }

  // --- the way in and out ---

  /** Callback, arrival, "I am done" and webhook. Mount it before any body parser, and before your pages. */
  routes(): Router {
    const router = express.Router(), at = `/:tenant/${this.settings.portal}`, form = express.urlencoded({ extended: false, limit: '4kb' });
    router.use((_, response, next) => {
      // Not `no-referrer`: with that a browser sends `Origin: null` with our own forms.
      response.set({ 'Cache-Control': 'no-store', 'Referrer-Policy': 'same-origin',
        'X-Content-Type-Options': 'nosniff', 'Content-Security-Policy': "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'" });
      next();
    });
    // Express answers HEAD with `get`, and a HEAD must not spend the code (rule 1): `seen` refuses it.
    router.get(`${at}/callback`, (request, response) => this.callback(request, response));
    router.get(`${at}/arrival`, (request, response) => this.ask(request, response));
    router.post(`${at}/arrival`, form, (request, response) => this.answer(request, response));
    router.post(`${at}/done`, (request, response) => this.finish(request, response));
    if (this.settings.webhookSecret) {
      router.post('/webhooks/magic-link', express.raw({ type: () => true, limit: '64kb' }), (request, response) => this.webhook(request, response));
    }
    return router;
  }

  /** Redeems the code. Nobody is signed in yet (rule 16). */
  private async callback(request: Request, response: Response) {
    // This address holds the code, however it is spelled, and nobody may learn it.
    response.set('Referrer-Policy', 'no-referrer');
    this.seen(request);
    const tenant = String(request.params.tenant), root = this.root(tenant);
    const code = typeof request.query.code === 'string' ? request.query.code : '';
    // A socket for both kinds shows IPv4 as ::ffff:203.0.113.9, and behind a Unix socket there is no address.
    const visitor = { address: request.ip?.replace(/^::ffff:(?=\d+\.)/, ''), user_agent: (request.headers['user-agent'] ?? '').slice(0, 256) };
    const opened = await this.call('/v1/sessions', { token: code, visitor }, { 'idempotency-key': random() }).catch((error: Error) => {
      if (error instanceof Refused && [400, 404, 409, 410].includes(error.status)) {
        throw new Stop(error.status, 'refused', 'This link opens nothing', `The service says: ${error.code}. Use the link in your mail again: its page can e-mail you a fresh one.`);
      }
      this.log(`a code was not redeemed: ${error.message}`);
      throw unknown();
    }) as Opened;
    const session = new Session(tenant, opened);
    if (opened.tenant_id !== tenant || opened.portal !== this.settings.portal) {
      this.owed.add(session);   // somebody else's door: ended, not used
      throw new Stop(404, 'refused', 'This link belongs to another portal');
    }
    const key = random();
    this.arrivals.set(key, session);
    this.setCookie(response, tenant, 'portal_arrival', key, PATIENCE);
    response.redirect(303, `${root}arrival`);
  }

  private arrival(request: Request): Session {
    const session = this.arrivals.get(cookie(request, 'portal_arrival'));
    if (session?.tenant !== request.params.tenant || !session || session.until <= Date.now()) throw superseded();
    return session;
  }

  /** Asks whether the visitor is who the code says. */
  private ask(request: Request, response: Response) {
    const root = this.root(request.params.tenant), session = this.arrival(request), current = this.mine(request);
    if (session.key) throw superseded();
    const { consultant, profile, expires_at } = session.opened;
    response.send(page('arrival', `Continue as ${profile.name}?`, `<p>You are <strong>${escape(consultant.name)}</strong> (support), and would act as
      <strong>${escape(profile.name)}</strong> until ${escape(expires_at.slice(0, 16).replace('T', ' '))} UTC. Everything is recorded under your name.</p>
      ${current ? `<p>This ends the session of ${escape(current.opened.consultant.name)} in this browser.</p>` : ''}
      <form method="post" action="${root}arrival"><input type="hidden" name="question" value="${session.question}">
      <button id="arrive" name="answer" value="yes">Continue as ${escape(profile.name)}</button> <button id="decline" name="answer" value="no">That is not me</button></form>`));
  }

  /** Yes starts the session, under a fresh id (rule 4), and ends the one before it. No ends what the code opened. */
  private async answer(request: Request, response: Response) {
    this.ownForm(request);
    const root = this.root(request.params.tenant), session = this.arrival(request), { question, answer } = request.body ?? {};
    if (question !== session.question || (session.key && answer !== 'yes')) throw superseded();
    if (answer !== 'yes') {
      this.arrivals.delete(cookie(request, 'portal_arrival'));
      await this.close(session);
      return response.send(page('refused', 'Nobody was signed in', '<p>What the link opened was ended. If you opened no link, tell your security contact.</p>'));
    }
    if (!session.key) {         // a double click gets the same answer
      const earlier = this.mine(request);
      session.key = random();
      this.sessions.set(session.key, session);
      this.forget((one) => one === earlier);
    }
    this.setCookie(response, session.tenant, 'portal_session', session.key, session.expiresAt - Date.now());
    return response.redirect(303, root);
  }

  /** I am done. */
  private async finish(request: Request, response: Response) {
    this.ownForm(request);
    const session = this.mine(request);
    if (!session) throw ended();
    session.done = true;
    this.forget((one) => one === session);
    await this.close(session);
    this.setCookie(response, session.tenant, 'portal_session', '', 0);
    response.send(page('goodbye', 'Your support session is over', '<p>Thank you. You can close this page.</p>'));
  }

  /** Messages of the service: what has ended is forgotten at once, and its record closed. */
  private webhook(request: Request, response: Response) {
    const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
    if (!verified(this.settings.webhookSecret!, request.headers, body)) return response.sendStatus(401);
    const { type, data } = JSON.parse(body.toString('utf8')) as { type: string; data: { magic_link_id?: string; session_id?: string } };
    // Whatever its sequence: what has ended never begins again, so a repeat or a late message finds nothing to forget.
    if (type === 'session.ended') this.forget((session) => session.opened.id === data.session_id);
    else if (['magic_link.revoked', 'magic_link.replaced', 'magic_link.expired'].includes(type)) this.forget((session) => session.opened.magic_link_id === data.magic_link_id);
    return response.sendStatus(204);
  }

  /** The last error handler: `app.use(guard.notices)`. What Express would show of an error itself holds paths of files. */
  readonly notices = (error: unknown, request: Request, response: Response, next: NextFunction) => {
    if (response.headersSent) return next(error);       // it can only be cut short
    const { mark, title, text, status } = error instanceof Stop ? error : this.unexpected(error, request, response);
    if (status === 503) response.set('Retry-After', '5');
    if (status === 405) response.set('Allow', 'GET');
    return response.status(status).send(page(mark, title, `<p>${escape(text)}</p>`));
  };

  /** Of Express and its parsers, or of a page. */
  private unexpected(error: unknown, request: Request, response: Response): Stop {
    response.set('Referrer-Policy', 'no-referrer');     // it may be the address of the callback
    const { status } = Object(error) as { status?: unknown };
    if (typeof status === 'number' && status >= 400 && status < 500) return unreadable(status);
    this.log(`${request.method} failed: ${error instanceof Error ? error.stack : String(error)}`);
    return new Stop(500, 'unavailable', 'Something went wrong here', 'It was noted. Go back and look whether it was done before you try again.');
  }
}
