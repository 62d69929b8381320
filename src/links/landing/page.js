// The landing page of a magic link.
//
// Opening this page must change nothing: mail scanners open links and run
// scripts. So the page only asks for a preview, which has no effect, and waits.
// Whatever has an effect starts in a trusted click of a button.
//
// Written for browsers of the end of 2020, which may be of its beginning (Chromium 80); watch.js speaks where this fails.
(() => {
  'use strict';

  const TIMEOUT_MS = 10_000;
  const RESEND_COOL_DOWN_MS = 60_000;
  const FIRST_LOOK_MS = 3_000;
  const LAST_LOOK_MS = 60_000;
  const FALLBACK_ZONE = 'UTC';

  // How each refusal of the service is shown: every code that its description names for this page's calls.
  const STATE_OF_CODE = {
    link_not_yet_valid: 'not_yet',
    link_spent: 'spent',
    link_superseded: 'superseded',
    link_replaced: 'superseded',
    link_revoked: 'revoked',
    link_expired: 'expired',
    token_expired: 'token_expired',
    token_invalid: 'invalid',
    signing_key_revoked: 'withdrawn',
    address_suppressed: 'undeliverable',
    resend_cool_down: 'cooling',
    rate_limited: 'crowded',
    step_up_code_wrong: 'code',
    step_up_void: 'code_void',
    device_unknown: 'elsewhere',
    proof_invalid: 'unproven',
    // What is longer than any token, or no text.
    invalid_body: 'invalid',
    body_too_large: 'invalid',
    invalid_request: 'mangled',
    unsupported_media_type: 'mangled',
    target_too_long: 'mangled',
    headers_too_large: 'mangled',
    request_timeout: 'slow',
    internal: 'fault',
    database_fault: 'fault',
    master_key_mismatch: 'fault',
    clock_behind: 'fault',
    unavailable: 'busy',
  };
  // Refusals that show the link as it is now.
  const CHANGED = ['link_not_yet_valid', 'link_spent', 'link_superseded', 'link_replaced', 'link_revoked', 'link_expired', 'token_expired'];
  // States that tell nothing of the link: it may not be known.
  const OF_NO_LINK = ['invalid', 'withdrawn', 'crowded', 'mangled', 'slow', 'fault', 'busy'];

  const { magicLinkToken, magicLinkDevice: device } = window;
  const $ = (id) => document.getElementById(id);
  const parts = Object.fromEntries(
    ['heading', 'lead', 'facts', 'next', 'paste', 'continue', 'resend', 'retry', 'progress', 'note',
      'paste-input', 'paste-error', 'code', 'code-input', 'code-error', 'code-submit',
      'remember', 'remember-input', 'forget'].map((id) => [id, $(id)]));

  const buttons = [parts.continue, parts.resend, parts.retry, parts.forget, parts['code-submit']];

  let token = '';        // held here only: never in storage, history or an attribute
  let link = null;       // the last preview of this token
  let asking = null;     // the one-time code challenge of this page
  let key = null;        // this browser's key for this link, where the browser is remembered
  let canRemember = false;
  let turn = 0;          // a response to an older turn is too late and is discarded
  let acting = false;    // a click is being carried out; further clicks wait
  let again = preview;   // what "Try again" repeats
  let timer;

  // ---- words -------------------------------------------------------------

  // Text with names set in. Each name becomes a <bdi> text node: it cannot be
  // markup, and a right-to-left name cannot reorder the sentence around it.
  function say(strings, ...names) {
    const text = document.createDocumentFragment();
    strings.forEach((string, index) => {
      text.append(string);
      if (index < names.length) {
        const name = document.createElement('bdi');
        name.textContent = names[index];
        text.append(name);
      }
    });
    return text;
  }

  function formatter(zone, options, locale = 'en-IN') {
    return new Intl.DateTimeFormat(locale, { timeZone: zone, ...options });
  }

  const piece = (format, date, type) => format.formatToParts(date).find((part) => part.type === type)?.value ?? '';

  // "IST" is known to English as spoken in India only, "CET" in Britain, "EST" in
  // the United States. Where none has a name the offset alone must do.
  function zoneName(zone, date) {
    for (const locale of ['en-IN', 'en-GB', 'en-US']) {
      const name = piece(formatter(zone, { timeZoneName: 'short' }, locale), date, 'timeZoneName');
      if (!/^(GMT|UTC)[+\-\u2212]/.test(name)) return name;
    }
    return '';
  }

  function inUtc(date) {
    const format = formatter(FALLBACK_ZONE,
      { day: 'numeric', month: 'short', year: 'numeric', hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
    const at = (type) => piece(format, date, type);
    return `${at('day')} ${at('month')} ${at('year')}, ${at('hour')}:${at('minute')} UTC`;
  }

  // Browsers before the end of 2021 do not tell it.
  function offsetOf(zone, date) {
    try {
      return piece(formatter(zone, { timeZoneName: 'longOffset' }), date, 'timeZoneName').replace('GMT', 'UTC');
    } catch {
      return '';
    }
  }

  // "Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30)", the way the mail prints it.
  function inZone(date, zone) {
    const format = formatter(zone, {
      weekday: 'short', day: 'numeric', month: 'short', year: 'numeric', hour: 'numeric', minute: '2-digit', hour12: true,
    });
    const at = (type) => piece(format, date, type);
    const offset = offsetOf(zone, date);
    const name = zoneName(zone, date);
    const label = !offset ? name : name && name !== offset ? `${name} (${offset === 'UTC' ? 'UTC+00:00' : offset})` : offset;
    return `${at('weekday')}, ${at('day')} ${at('month')} ${at('year')}, `
      + `${at('hour')}:${at('minute')} ${at('dayPeriod').toLowerCase()} ${label}`;
  }

  function beside(text) {
    const span = document.createElement('span');
    span.className = 'beside';
    span.textContent = text;
    return span;
  }

  // The moment in the tenant's zone with UTC beside it; UTC alone if the
  // browser does not know the zone.
  function moment(instant, zone) {
    const time = document.createElement('time');
    time.dateTime = instant;
    const date = new Date(instant);
    if (Number.isNaN(date.getTime())) {
      time.textContent = instant;
      return time;
    }
    let local = '';
    try {
      local = zone && zone !== FALLBACK_ZONE ? inZone(date, zone) : '';
    } catch {
      local = '';
    }
    if (!local) {
      time.textContent = inUtc(date);
      return time;
    }
    time.append(local, ' ', beside(inUtc(date)));
    return time;
  }

  // ---- states ------------------------------------------------------------

  // The people of the tenant who can be asked, or else the tenant.
  const whom = () => {
    const names = (link.contacts ?? []).map((contact) => contact.name);
    return names.length ? `${names.join(' or ')} of ${link.tenant.name}` : link.tenant.name;
  };
  const portalOf = () => say`the ${link.portal.name} portal of ${link.tenant.name}`;
  const joined = (...pieces) => {
    const text = document.createDocumentFragment();
    text.append(...pieces);
    return text;
  };

  // Effect of a request that failed. A refusal is certain; a fault of the service, or an answer that is not its own, is
  // not. Only the portal can use a link up.
  const outcome = (isCertain = false) => {
    if (again !== resend) return 'Your link has not been used.';
    return isCertain ? 'No fresh link was sent.' : 'It is not certain that a fresh link was sent.';
  };
  // Digits of every script: each has its ten in a row.
  const withAsciiDigits = (text) => text.normalize('NFKC').replace(/\p{Nd}/gu, (digit) => {
    let value = 0;
    while (/\p{Nd}/u.test(String.fromCodePoint(digit.codePointAt(0) - value - 1))) value += 1;
    return value % 10;
  });
  const later = (wait) => (wait ? `Please wait about ${inWords(wait)}, then try again.` : 'Please wait a moment, then try again.');

  // Texts of each state. `facts` lists the rows of the table, `resend` and
  // `retry` offer those buttons, `next` says what to do now.
  const STATES = {
    loading: () => ({ heading: 'Checking your link', lead: 'One moment, please. Nothing is opened yet.' }),
    ready: () => ({
      heading: joined('Temporary access to ', portalOf()),
      facts: ['profile', 'reason', 'until', 'visit', 'access', ...limits(), 'record'],
      button: say`Continue to the ${link.portal.name} portal as ${link.profile.name}`,
      note: say`This link was sent to ${link.consultant.name}. Not meant for you? Close this page; nothing happens until you continue.`,
    }),
    again: () => ({
      heading: joined('Your next visit to ', portalOf()),
      lead: 'This browser is remembered for this access, so no mail is needed.',
      facts: ['profile', 'reason', 'until', 'visit', 'access', ...limits(), 'record'],
      button: say`Continue to the ${link.portal.name} portal as ${link.profile.name}`,
      note: 'Not your own device any more? Forget this browser: the link then opens nothing here.',
      forget: true,
    }),
    elsewhere: () => ({
      heading: 'This access is remembered in another browser',
      lead: 'There your link opens the next visit. Here it opens nothing, so that a copied link is worth nothing.',
      facts: ['portal', 'profile', 'until'],
      next: 'Open your link in that browser. To go on here instead, have a fresh link sent to your registered address: the other browser is then forgotten.',
      resend: true,
    }),
    forgotten: () => ({
      heading: 'This browser is forgotten',
      lead: 'Your link opens nothing here any more. A visit that is open in the portal goes on.',
      facts: ['portal', 'profile', 'until'],
      next: 'For the next visit have a fresh link sent to your registered address.',
      resend: true,
    }),
    not_yet: () => ({
      heading: 'This access has not opened yet',
      lead: joined('Your access to ', portalOf(), ' is arranged. It opens at the time below.'),
      facts: ['from', 'until', 'profile', 'reason', 'access', ...limits()],
      next: 'Come back then with the same link; looking has not used it up.',
      retry: 'Check again',
    }),
    spent: () => ({
      heading: 'This link has already been used',
      lead: 'Each link works once, so that a forwarded or copied mail opens nothing.',
      facts: ['portal', 'profile', 'until'],
      next: link.can_resend
        ? 'If you are still signed in to the portal, simply go on there. Otherwise have a fresh link sent to your registered address. If it was not you who used this link, report it to your security contact.'
        : 'If you are still signed in to the portal, simply go on there. If it was not you who used this link, report it to your security contact.',
      resend: true,
    }),
    superseded: () => ({
      heading: 'A newer link has replaced this one',
      lead: {
        waiting: 'Only the link in the newest mail works, and that mail is still waiting to be sent to the registered address.',
        lost: 'Only the link in the newest mail works, and that mail did not reach the registered address.',
      }[link.newest_mail] ?? 'Only the link in the newest mail to the registered address works.',
      facts: [...(link.newest_mailed_at ? ['mailed'] : []), ...(opensLater() ? ['from'] : []), 'portal', 'profile', 'until'],
      next: newestMail(),
      resend: true,
    }),
    replaced: () => ({
      heading: 'Another link took this one\u2019s place',
      lead: 'Whoever arranged the access replaced your link, and it opens nothing any more.',
      facts: [...(link.newest_mailed_at ? ['mailed'] : []), 'portal', 'profile'],
      next: {
        revoked: say`The other link was withdrawn, too. If there is more to do, ask ${whom()} whether access should be granted again.`,
        expired: say`The time of the other link is over, too. If there is more to do, ask ${whom()} to grant access again.`,
      }[link.successor_state] ?? newestMail(),
    }),
    token_expired: () => ({
      heading: 'This mail is too old, your access is not',
      lead: 'Links in a mail work for a short time only. The access itself is still granted.',
      facts: ['portal', 'profile', 'until'],
      next: link.can_resend ? 'Have a fresh link sent to your registered address.' : 'Ask the person who arranged the access to send you a fresh link.',
      resend: true,
    }),
    expired: () => ({
      heading: 'This access has ended',
      lead: 'The agreed time is over and the link opens nothing any more.',
      facts: ['portal', 'profile', 'ended'],
      next: say`If there is more to do, ask ${whom()} to grant access again.`,
    }),
    revoked: () => ({
      heading: 'This access was withdrawn',
      lead: 'It was ended before its time was over, and the link opens nothing any more.',
      facts: ['portal', 'profile', 'reason'],
      next: say`If there is more to do, ask ${whom()} whether access should be granted again.`,
    }),
    invalid: () => ({
      heading: 'This is not a link of ours',
      lead: 'The link may have been cut or changed on its way to you, or it comes from somebody else. Nothing was opened.',
      next: 'Compare it with your mail: the address must be the one named there. You can paste the whole link here.',
      paste: true,
    }),
    withdrawn: () => ({
      heading: 'This link was withdrawn',
      lead: 'It was mailed with a key that is no longer trusted, so it opens nothing any more. Your access may still be granted. Nothing was opened.',
      next: 'Look for a newer mail, also in the spam folder, and use the link in it. If there is none, ask the person who arranged the access to send you a fresh link.',
    }),
    offline: () => ({
      heading: 'No connection',
      lead: `The service could not be reached. ${outcome()}`,
      next: 'Check your network (some need a sign-in first), then try again.',
      retry: 'Try again',
    }),
    busy: ({ wait } = {}) => ({
      heading: 'The service is busy',
      lead: `It cannot answer just now. ${outcome()}`,
      next: later(wait),
      retry: 'Try again',
    }),
    crowded: ({ wait } = {}) => ({
      heading: again === resend ? 'Too many links were asked for' : 'Too many requests just now',
      lead: again === resend
        ? 'No fresh link was sent: there were as many mails, or requests from your network, as there may be for now.'
        : `There were as many requests from your network as there may be in a minute. ${outcome(true)}`,
      next: again === resend && wait ? `Another can be asked for in about ${inWords(wait)}.` : later(wait),
      retry: 'Try again',
    }),
    slow: () => ({
      heading: 'The request took too long',
      lead: `It did not arrive in time. ${outcome(true)}`,
      next: 'Check your network, then try again.',
      retry: 'Try again',
    }),
    mangled: () => ({
      heading: 'The request was changed on its way',
      lead: `The service could not read what this page sent. ${outcome(true)}`,
      next: 'Reload this page and try again. If it stays so, try another network or browser.',
      retry: 'Try again',
    }),
    fault: () => ({
      heading: 'Something is wrong with the service',
      lead: `It has a fault that waiting may not mend. ${outcome()}`,
      next: 'Try again later. If it stays so, tell the person who arranged the access.',
      retry: 'Try again',
    }),
    unproven: () => ({
      heading: 'This browser could not prove that it is remembered',
      lead: 'The proof that it sent was refused, or came too late. Your link has not been used.',
      facts: ['portal', 'profile', 'until'],
      next: 'Try again. If it stays so, forget this browser and have a fresh link sent to your registered address.',
      retry: 'Try again',
    }),
    paste: () => ({
      heading: 'Paste your link',
      lead: 'The part after the # sign is missing from the address. Some mail gateways cut it off, and this page removes it once it has been read.',
      next: 'Open the link in your mail again, or paste it here.',
      paste: true,
    }),
    undeliverable: () => ({
      heading: 'Mail to you comes back',
      lead: `No ${again === resend ? 'fresh link' : 'code'} was sent: mail to the registered address came back, was reported as unwanted, or is held back.`,
      facts: ['portal', 'profile', 'until'],
      next: 'Ask the person who arranged the access to have your address looked into.',
    }),
    code_cooling: ({ wait } = {}) => ({
      heading: 'A code was asked for a moment ago',
      lead: 'Codes are sent some time apart. Your link has not been used.',
      next: wait ? `Another can be sent in about ${inWords(wait)}.` : 'Another can be sent a little later.',
      retry: 'Try again',
    }),
    cooling: ({ wait } = {}) => ({
      heading: 'A fresh link was asked for a moment ago',
      lead: 'Links are sent some time apart, and further apart each time. Look into your mailbox, and into the spam folder, first.',
      next: wait ? `Another can be asked for in about ${inWords(wait)}.` : 'Another can be asked for a little later.',
      retry: 'Ask again',
    }),
    code: () => ({
      heading: 'A code is on its way to you',
      lead: say`The ${link.portal.name} portal wants to be sure that it is you. A code is being sent to the registered address of ${link.consultant.name}.`,
      next: 'Read the newest mail and type the code here. If this page is lost, open your link again: it asks for the same code. Your link has not been used.',
      code: true,
    }),
    code_open: () => ({
      heading: link.step_up.mailed_at ? 'Enter the code that was mailed to you' : 'A code is waiting to be sent',
      lead: joined(say`The ${link.portal.name} portal wants to be sure that it is you. `, link.step_up.mailed_at
        ? say`A code was sent to the registered address of ${link.consultant.name} a few minutes ago.`
        : say`The mail with a code to the registered address of ${link.consultant.name} has not left yet.`),
      facts: ['portal', 'profile', 'until'],
      next: link.step_up.mailed_at
        ? 'Type the code of the newest mail here. No such mail? Have another code sent.'
        : 'Wait for the mail, and type its code here. Your link has not been used.',
      code: true,
      button: 'Send another code',
    }),
    code_lost: () => ({
      heading: 'The code could not be mailed',
      lead: say`The mail with the code did not reach the registered address of ${link.consultant.name}. Your link has not been used.`,
      facts: ['portal', 'profile', 'until'],
      next: say`Have another code sent. If that fails, too, ask ${whom()} to have your address looked into.`,
      button: 'Send another code',
    }),
    code_void: () => ({
      heading: 'The code has expired or was used up',
      lead: 'A code is valid for ten minutes and five attempts. Your link has not been used.',
      facts: ['portal', 'profile', 'until'],
      next: 'Start again to have a new code sent.',
      retry: 'Start again',
    }),
    resent: () => ({
      heading: 'Look into your mailbox',
      lead: 'A fresh link is on its way to the registered address.',
      next: 'The older links no longer work, so use the newest mail. Links are sent about a minute apart at most; if nothing comes, look into the spam folder before you ask again.',
    }),
  };

  const FACTS = {
    portal: () => ['Access to', portalOf()],
    profile: () => ['As', say`${link.profile.name}`],
    reason: () => ['Why', joined(say`${link.reason}`, ' ', ...(link.ticket ? [beside(link.ticket)] : []))],
    mailed: () => ['Newest mail', moment(link.newest_mailed_at, link.time_zone)],
    from: () => ['Opens', moment(link.starts_at, link.time_zone)],
    until: () => ['Until', moment(link.expires_at, link.time_zone)],
    visit: () => ['This visit', joined(moment(link.visit_expires_at, link.time_zone), beside(nextVisit()))],
    ended: () => ['Ended', moment(link.expires_at, link.time_zone)],
    access: () => ['Access level', link.access === 'read_only' ? 'Read only: look, but change nothing' : 'Full: look and change'],
    modules: () => ['Only in', link.modules.join(', ')],
    forbidden: () => ['Not included', link.forbidden.map((word) => FORBIDDEN[word] ?? word).join('; ')],
    record: () => ['Audit log', 'Everything done during this access is recorded and kept.'],
  };

  // What the access leaves out, in the words of the mail.
  const FORBIDDEN = {
    export: 'exporting data',
    delete: 'deleting data',
    credentials: 'changing passwords and other credentials',
    mfa: 'changing second factors',
    contact_details: 'changing contact details',
    bank_account: 'changing bank accounts',
    roles: 'changing roles and permissions',
    api_keys: 'creating or changing API keys',
    send_mail: 'sending mails',
    consent: 'giving or withdrawing consent',
  };

  const opensLater = () => new Date(link.starts_at) > new Date();

  // Where the newest mail is, and what to do about it.
  function newestMail() {
    if (link.newest_mail === 'waiting') {
      return opensLater() ? 'It is sent when the access opens.' : 'Look into your mailbox again in a few minutes.';
    }
    if (link.can_resend) return link.newest_mail === 'lost' ? 'Have another sent.' : 'That mail is too old by now. Have another sent.';
    if (link.newest_mail === 'lost') return say`Its mail did not reach the registered address. Ask ${whom()} to have it sent again.`;
    return 'Look for the newest mail, also in the spam folder, and use the link in it.';
  }

  const limits = () => ['modules', 'forbidden'].filter((name) => link[name]?.length);

  // How the visit after this one begins.
  function nextVisit() {
    if (link.visit_expires_at === link.expires_at) return 'At most until then.';
    if (key) return 'At most until then. Open the same link in this browser for the next one.';
    return 'At most until then. The next one begins with a fresh link by mail'
      + (link.device ? ', or with this one if you have this browser remembered.' : '.');
  }

  function inWords(seconds) {
    if (seconds > 90) return `${Math.ceil(seconds / 60)} minutes`;
    return seconds === 1 ? '1 second' : `${seconds} seconds`;
  }

  function fill(part, content) {
    put(part, ...(content ? [content] : []));
    part.hidden = !content;
  }

  // `replaceChildren` is younger than some browsers of the end of 2020.
  function put(part, ...contents) {
    part.textContent = '';
    part.append(...contents);
  }

  // Whether the browser can may be known only after the code was asked for.
  function offerToRemember() {
    parts.remember.hidden = parts.code.hidden || !canRemember || !link.device;
  }

  function show(state, extra) {
    clearTimeout(timer);
    acting = false;
    const view = STATES[state](extra);

    fill(parts.heading, view.heading);
    fill(parts.lead, view.lead);
    fill(parts.next, view.next);
    fill(parts.note, view.note);
    fill(parts.continue, view.button);
    fill(parts.retry, view.retry);
    parts.resend.hidden = !(view.resend && link.can_resend);
    parts.paste.hidden = !view.paste;
    parts.code.hidden = !view.code;
    parts.forget.hidden = !view.forget;
    offerToRemember();
    parts['code-error'].textContent = '';
    parts['code-input'].value = '';
    parts.progress.textContent = '';
    parts['paste-error'].textContent = '';
    for (const button of buttons) button.removeAttribute('aria-disabled');

    parts.facts.hidden = !view.facts;
    put(parts.facts, ...(view.facts ?? []).map((name) => {
      const [label, value] = FACTS[name]();
      const row = document.createElement('div');
      const term = document.createElement('dt');
      const detail = document.createElement('dd');
      row.dataset.fact = name;
      term.textContent = label;
      detail.append(value);
      row.append(term, detail);
      return row;
    }));

    document.title = parts.heading.textContent;
    document.body.dataset.state = state;
    // The very first words are read aloud anyway; every later change is announced.
    if (view.code) parts['code-input'].focus();
    else if (state !== 'loading') parts.heading.focus();
    if (view.code) watchMail(FIRST_LOOK_MS);
  }

  // A mail may fail while somebody waits for it: looks a few times whether it did, ever more rarely.
  function watchMail(wait) {
    const mine = turn;
    timer = setTimeout(async () => {
      const seen = await post('/l/preview');
      if (mine !== turn || acting) return;
      const isSeen = seen.status === 200 && isPreview(seen.body);
      // Whoever types already is not disturbed.
      const isOut = isSeen && link.step_up && !link.step_up.mailed_at && seen.body.step_up?.mailed_at
        && !parts['code-input'].value;
      if (isOut || (isSeen && seen.body.code_not_delivered)) {
        link = seen.body;
        showLink();
      } else if (wait < LAST_LOOK_MS) watchMail(wait * 2);
    }, wait);
  }

  // A click is being carried out. aria-disabled rather than disabled, which
  // would take the focus away.
  function busyWith(words) {
    acting = true;
    for (const button of buttons) button.setAttribute('aria-disabled', 'true');
    parts.progress.textContent = words;
  }

  // ---- talking to the service ---------------------------------------------

  // Resolves to {status, body, wait}; `status` 0 means no response. A response that
  // is not JSON (such as a hotel's sign-in page) is treated as none.
  async function post(path, more = {}) {
    const abort = new AbortController();
    const deadline = setTimeout(() => abort.abort(), TIMEOUT_MS);
    try {
      const response = await fetch(path, {
        method: 'POST',
        headers: { 'content-type': 'application/json', accept: 'application/json, application/problem+json' },
        body: JSON.stringify({ token, ...more }),
        mode: 'same-origin',
        credentials: 'omit',
        cache: 'no-store',
        redirect: 'error',
        referrerPolicy: 'no-referrer',
        signal: abort.signal,
      });
      const text = await response.text();
      const wait = Number.parseInt(response.headers.get('retry-after') ?? '', 10) || 0;
      let body = {};
      try {
        body = JSON.parse(text) ?? {};
      } catch {
        if (response.status === 200) return { status: 0, body };
      }
      return { status: response.status, body, wait };
    } catch {
      return { status: abort.signal.aborted ? 504 : 0, body: {} };
    } finally {
      clearTimeout(deadline);
    }
  }

  // Whether a refusal is the service's own, and not that of something in between.
  const isOurs = ({ status, body }) => typeof body.code === 'string' && body.status === status;

  // Shows the state for a refused request, or for an answer that is not the service's.
  function refused(answer) {
    const { status, body, wait } = answer;
    if (status < 500 && !isOurs(answer)) return show('offline');
    const state = isOurs(answer) ? STATE_OF_CODE[body.code] : undefined;
    if (state && (link || OF_NO_LINK.includes(state))) return show(state, { wait });
    return show('busy', { wait });
  }

  const isPreview = (body) => typeof body.state === 'string' && Object.keys(STATES).includes(body.state)
    && [body.portal, body.tenant, body.profile, body.consultant].every((thing) => typeof thing?.name === 'string');

  async function preview() {
    const mine = ++turn;
    again = preview;
    show('loading');
    parts['remember-input'].checked = false;
    if (await look(mine)) showLink();
  }

  // Takes the link as it is now; whether it could.
  async function look(mine) {
    const answer = await post('/l/preview');
    if (mine !== turn) return false;
    if (answer.status !== 200) {
      refused(answer);
      return false;
    }
    if (!isPreview(answer.body)) {
      show('offline');
      return false;
    }
    link = answer.body;
    key = link.device?.is_remembered ? await device.find(link.device) : null;
    return mine === turn;
  }

  // A code that was mailed to another page of this link, such as one in a mail
  // program that was closed, can be entered here.
  function showLink() {
    if (link.device?.is_remembered) return show(key ? 'again' : 'elsewhere');
    const open = link.state === 'ready' && typeof link.step_up?.id === 'string';
    asking = open ? link.step_up : null;
    show(open ? 'code_open' : stateOf(link));
  }

  function stateOf({ state, successor_state: successor, code_not_delivered: isLost }) {
    if (state === 'superseded' && successor) return 'replaced';
    return state === 'ready' && isLost ? 'code_lost' : state;
  }

  async function proceed() {
    const mine = ++turn;
    again = preview;
    busyWith('Opening the portal…');
    const answer = await post('/l/continue');
    if (mine !== turn) return;
    if (answer.status === 200 && typeof answer.body.step_up?.id === 'string') {
      asking = answer.body.step_up;
      return show('code');
    }
    if (answer.status === 200) return leave(answer, mine);
    if (isOurs(answer) && answer.body.code === 'resend_cool_down') return show('code_cooling', { wait: answer.wait });
    // The link changed since it was previewed. Ask for its details as they are
    // now, but never offer again what was just refused.
    if (CHANGED.includes(answer.body.code)) {
      const fresh = await post('/l/preview');
      if (mine !== turn) return;
      if (fresh.status === 200 && isPreview(fresh.body)) {
        link = fresh.body;
        if (link.state !== 'ready') return show(stateOf(link));
      }
    }
    refused(answer);
  }

  function leave(answer, mine) {
    const target = webAddress(answer.body.redirect_url);
    // Somebody else's answer: the service names the portal's address.
    if (!target) return show('offline');
    location.assign(target);
    // Still here after a while: the portal did not open. A new click gets a new code.
    timer = setTimeout(() => { if (mine === turn) preview(); }, TIMEOUT_MS);
  }

  // Sends what this browser's key proves. Nonces live a minute, so the link is looked at again first.
  async function prove(path, words) {
    const mine = ++turn;
    again = preview;
    busyWith(words);
    if (!await look(mine)) return { mine, answer: null };
    if (!key) {
      showLink();
      return { mine, answer: null };
    }
    const proof = await device.prove(key, path, link.device).catch(() => null);
    if (!proof) {
      // The key cannot be used: this browser is like any other.
      await device.forget(link.device);
      preview();
      return { mine, answer: null };
    }
    const answer = await post(path, { proof });
    if (mine !== turn) return { mine, answer: null };
    if (answer.status < 300 && answer.status > 0) return { mine, answer };
    if (answer.body.code === 'device_unknown') await device.forget(link.device);
    // Another tab was faster, or the link changed: show it as it is now.
    if (answer.body.code === 'device_unknown' || CHANGED.includes(answer.body.code)) preview();
    else refused(answer);
    return { mine, answer: null };
  }

  async function reenter() {
    const { mine, answer } = await prove('/l/reenter', 'Opening the portal…');
    if (answer) leave(answer, mine);
  }

  async function forget() {
    const { mine, answer } = await prove('/l/forget', 'Forgetting this browser…');
    if (!answer) return;
    const forgotten = link.device;
    // The answer has no body that tells whose it is: the service says whether it is so.
    if (!await look(mine)) return;
    if (link.device?.is_remembered) return show('offline');
    await device.forget(forgotten);
    key = null;
    show('forgotten');
  }

  // A proof by a new key, which is kept here. Where the browser cannot, the next visit takes a mail.
  async function newKey() {
    try {
      const seen = await post('/l/preview');
      return await device.prove(await device.create(seen.body.device), '/l/verify', seen.body.device);
    } catch {
      return undefined;
    }
  }

  async function sendCode(code) {
    const mine = ++turn;
    again = preview;
    busyWith('Checking the code…');
    const proof = !parts.remember.hidden && parts['remember-input'].checked ? await newKey() : undefined;
    const answer = await post('/l/verify', { id: asking.id, page_secret: asking.page_secret, code, proof });
    if (mine !== turn) return;
    if (answer.status === 200) return leave(answer, mine);
    if (answer.body.code === 'proof_invalid') {
      show('code');
      parts['remember-input'].checked = false;
      parts['code-error'].textContent = 'This browser could not be remembered. Enter the code again to go on without.';
      return;
    }
    if (CHANGED.includes(answer.body.code)) return preview();
    if (answer.body.code === 'step_up_code_wrong') {
      show('code');
      parts['code-error'].textContent = 'This is not the code. Compare it with the newest mail.';
      return;
    }
    refused(answer);
  }

  async function resend() {
    const mine = ++turn;
    again = resend;
    busyWith('Asking for a fresh link…');
    const answer = await post('/l/resend');
    if (mine !== turn) return;
    // The link changed since it was previewed: show it as it is now.
    if (CHANGED.includes(answer.body.code)) return preview();
    // Something in between may answer anything: only the service's own word counts.
    if (answer.status !== 202 || answer.body.state !== 'queued') return refused(answer);
    show('resent');
    timer = setTimeout(() => { parts.resend.hidden = false; }, RESEND_COOL_DOWN_MS);
  }

  // A redirect to `javascript:` or `data:` would run as this page.
  function webAddress(text) {
    try {
      const url = new URL(text);
      return url.protocol === 'https:' || url.protocol === 'http:' ? url.href : null;
    } catch {
      return null;
    }
  }

  // ---- the token ----------------------------------------------------------

  // What stands behind the last # sign, where there is no whole token: the service says what is wrong with it.
  function restIn(text) {
    const last = text.replace(/\s+/g, '').split(/#|%23/i).pop();
    return (/^[<"']?([\w.-]+)/.exec(last)?.[1] ?? '').replace(/\.+$/, '');
  }

  function start(found) {
    token = found;
    link = null;
    if (token) preview();
    else {
      turn += 1;
      show('paste');
    }
  }

  // Out of the address bar at once: no history, screenshot or shared screen keeps it.
  function takeFromAddress() {
    // Some gateways make the # sign a part of the path: /l%23<token>.
    const found = magicLinkToken(location.href) || restIn(location.hash);
    history.replaceState(null, '', '/l');
    return found;
  }

  // ---- events -------------------------------------------------------------

  // Only a person's own click has an effect; a script's click() is not trusted.
  function onHumanClick(button, act) {
    button.addEventListener('click', (event) => {
      if (event.isTrusted && !acting) act();
    });
  }

  onHumanClick(parts.continue, () => (key ? reenter() : proceed()));
  onHumanClick(parts.forget, forget);
  onHumanClick(parts.resend, resend);
  onHumanClick(parts.retry, () => again());

  parts.paste.addEventListener('submit', (event) => {
    event.preventDefault();
    const text = parts['paste-input'].value;
    const whole = magicLinkToken(text);
    const found = whole || restIn(text);
    if (!found || (!whole && text.includes('://') && !/#|%23/i.test(text))) {
      parts['paste-error'].textContent = found
        ? 'This link ends before its # sign. Copy the whole link from your mail.'
        : 'Paste your link first.';
      parts['paste-input'].focus();
      return;
    }
    parts['paste-input'].value = '';
    start(found);
  });

  // The button of our mail shows no address: it is in the other half of what is copied.
  parts['paste-input'].addEventListener('paste', (event) => {
    const copied = (type) => event.clipboardData?.getData(type) ?? '';
    const text = copied('text/plain');
    const addresses = copied('text/html').match(/\bhref\s*=\s*(?:"[^"]*"|'[^']*')/gi) ?? [];
    const found = magicLinkToken([...addresses, text].join('\n'));
    if (!found || found === magicLinkToken(text)) return;
    event.preventDefault();
    parts['paste-input'].value = `${location.origin}/l#${found}`;
  });

  parts.code.addEventListener('submit', (event) => {
    event.preventDefault();
    if (acting || !event.isTrusted) return;
    const code = withAsciiDigits(parts['code-input'].value).replace(/[^0-9a-z]+/gi, '');
    if (/^\d{6}$/.test(code)) {
      sendCode(code);
      return;
    }
    parts['code-error'].textContent = 'The code has six digits.';
    parts['code-input'].focus();
  });

  addEventListener('hashchange', () => {
    if (location.hash) start(takeFromAddress());
  });

  // Back from the portal: what was shown before may no longer be true.
  addEventListener('pageshow', (event) => {
    if (event.persisted) start(token);
  });

  device.isAble().then((able) => {
    canRemember = able;
    offerToRemember();
  });
  start(takeFromAddress());
})();
